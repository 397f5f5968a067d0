//! Where to connect: a client asks before it logs in, and reports what it has measured once it has.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use bytes::BytesMut;
use protocol::{
    ErrorCode,
    connection::{ServerConnection, ServerLimits},
    message::{AccessPoint, Done, Locate, LocateReply, ReportRoundTrips},
};

use super::{connection::Connection, requests::invalid};
use crate::{
    errors::Refusal,
    geo::{ROUND_TRIPS_MAX, RoundTrip, here::Locator},
};

/// Answers where to connect.
pub(super) fn locate(connection: &Rc<Connection>, request: u32, asked: &Locate) -> Result<(), Refusal> {
    // Without an address it is gone already.
    let ip = connection.ip.ok_or(ErrorCode::UNAVAILABLE)?;
    let located = connection.core.shared.locate(ip, &asked.current, "protocol").map_err(too_many)?;
    connection.with_protocol(|protocol| protocol.respond(request, &LocateReply::from(located)));
    Ok(())
}

/// Takes what a client has measured.
pub(super) fn report(connection: &Rc<Connection>, request: u32, report: ReportRoundTrips) -> Result<(), Refusal> {
    if report.round_trips.len() > ROUND_TRIPS_MAX {
        return Err(invalid("at most 16 round trips can be reported at once"));
    }
    let round_trips = report.round_trips.into_iter().map(|round_trip| RoundTrip {
        access_point: round_trip.access_point,
        connect_ms: round_trip.connect_ms,
        tls_ms: round_trip.tls_ms,
        failed: round_trip.failed,
    });
    let round_trips: Vec<_> = round_trips.collect();
    let ip = connection.ip.ok_or(ErrorCode::UNAVAILABLE)?;
    connection.core.shared.take(ip, "report").map_err(too_many)?;
    let taken = connection.core.shared.take_round_trips(ip, &report.token, &round_trips);
    taken.map_err(|_| invalid("the token is none of ours, or not good any more"))?;
    connection.with_protocol(|protocol| protocol.respond(request, &Done {}));
    Ok(())
}

fn too_many(wait_ms: u32) -> Refusal {
    let text = "too many questions from this address".to_owned();
    Refusal { text, retry_after_ms: wait_ms, ..ErrorCode::RATE_LIMITED.into() }
}

/// Whether a client that has logged in does well to locate.
pub(super) fn is_much_better_elsewhere(connection: &Connection) -> bool {
    let shared = &connection.core.shared;
    let here = connection.via.as_deref().unwrap_or(shared.geo.here());
    connection.ip.is_some_and(|ip| shared.is_much_better_elsewhere(ip, here))
}

/// Access points that a client is told when this one ends, at the most.
const ELSEWHERE_MAX: usize = 3;

/// Clients that are sent away come again within so many milliseconds, spread out.
const AWAY_MS: (u64, u64) = (100, 2_000);

/// The only thing that a client is told which is not served: why, to come again, and where else it may, but for here and
/// the access point that it has come by.
pub fn last_word(
    locator: &impl Locator,
    limits: Arc<ServerLimits>,
    code: ErrorCode,
    ip: Option<IpAddr>,
    via: Option<&str>,
) -> BytesMut {
    let mut connection = ServerConnection::new(limits, locator.clock().monotonic_us() / 1000);
    let retry_after_ms = AWAY_MS.0 + locator.rng().next_u64() % (AWAY_MS.1 - AWAY_MS.0);
    let elsewhere = ip.map_or_else(Vec::new, |ip| elsewhere(locator, ip, via));
    connection.go_elsewhere(code, retry_after_ms as u32, elsewhere);
    connection.output().split()
}

/// Where a client should connect that can't stay here, nor at `via`. Nowhere, if all are full: it would be sent round.
pub(super) fn elsewhere(locator: &impl Locator, ip: IpAddr, via: Option<&str>) -> Vec<AccessPoint> {
    let here = locator.geo().here();
    let located = locator.locate_now(ip, "");
    let is_other = |id: &str| id != here && Some(id) != via;
    let others = located.access_points.into_iter().filter(|told| !located.are_full && is_other(&told.id));
    others.take(ELSEWHERE_MAX).map(AccessPoint::from).collect()
}
