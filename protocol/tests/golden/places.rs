//! The valid vectors of access points.

use bytes::Bytes;
use protocol::{command::Command, message::*};

use crate::{
    format::FrameVector,
    frames::{TIME_MS, noted, request, response},
    messaging::strings,
};

pub(crate) fn frames() -> Vec<FrameVector> {
    let point = |id: &str, weight, expected_ms| AccessPoint {
        id: id.into(),
        addresses: strings(&["sg.example.com:443", "[2001:db8::1]:443"]),
        region: "singapore".into(),
        weight,
        expected_ms,
    };
    let located = LocateReply {
        access_points: vec![point("sg-1", 100, 12), point("jp-1", 0, 75)],
        expires_s: 280,
        token: (0..41).collect(),
    };
    let round_trip =
        |id: &str, connect_ms, tls_ms, failed| RoundTrip { access_point: id.into(), connect_ms, tls_ms, failed };
    let round_trips = vec![round_trip("sg-1", 11, 13, false), round_trip("jp-1", 0, 0, true)];
    let report = ReportRoundTrips { token: (0..41).collect::<Bytes>(), round_trips };
    let elsewhere = LoginReply { server_time_ms: TIME_MS, store: (1..9).collect(), locate: true };
    vec![
        noted(
            response("login reply, better elsewhere", 1, Command::Login, elsewhere),
            "the client is logged in, and does well to locate",
        ),
        request("locate", 1, Command::Locate, Locate { current: "sg-1".into() }),
        response("locate reply", 1, Command::Locate, located),
        noted(
            response(
                "locate reply, no access points",
                1,
                Command::Locate,
                LocateReply { expires_s: 300, ..Default::default() },
            ),
            "any address that the client knows is as good as another",
        ),
        request("report_round_trips", 3, Command::ReportRoundTrips, report),
        response("report_round_trips reply", 3, Command::ReportRoundTrips, Done {}),
    ]
}
