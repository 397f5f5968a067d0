//! `GET /v1/locate`: where to connect, for clients that do not speak the protocol yet.
//!
//! Nobody logs in for it. So it has a port, a thread and connections of its own, is limited by address, and a connection
//! is for one question. Who asks is who has connected, unless that is a proxy that the operator trusts to tell.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};
use ipnetwork::IpNetwork;
use protocol::message::{AccessPoint, LocateReply};
use serde_json::{Value, json};

use super::{here::Locator, measured::customer};
use crate::{
    api::call::Query,
    config::Config,
    https::{self, Ends, Host, Limits, Reply, Server, Share, Site},
};

/// The path that is served.
pub const PATH: &str = "/v1/locate";

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Starts to serve, on threads of its own.
pub fn serve<L: Locator + Host>(listener: TcpListener, locator: Arc<L>, config: &Config) -> anyhow::Result<Server> {
    let limits = Limits {
        threads: 1,
        connections_max: config.geo.connections_max,
        head_ms_max: config.api.head_ms_max,
        write_stall_ms_max: config.api.write_stall_ms_max,
    };
    https::serve(listener, locator.clone(), Arc::new(Locating(locator)), limits)
}

struct Locating<L>(Arc<L>);

impl<L: Locator> Site for Locating<L> {
    const NAME: &'static str = "locate";
    const METRICS: (&'static str, &'static str) =
        ("gateway_locate_connections", "gateway_locate_connections_refused_total");
    // The answer is good for minutes.
    const KEEPS_CONNECTIONS: bool = false;

    fn share(&self, ip: IpAddr) -> Option<Share> {
        let geo = self.0.geo();
        let is_proxy = is_one_of(geo.trusted_proxies(), ip);
        (!is_proxy).then(|| Share { of: customer(ip), most: geo.connections_per_address_max() })
    }

    async fn answer(self: Arc<Self>, ends: Ends, request: Request<Incoming>) -> Reply {
        let (status, value, retry_after_s) = locate(&*self.0, ends, &request).await;
        let mut reply = Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
        *reply.status_mut() = status;
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Each answer is one client's. Pages of any origin may ask: with the token nobody else can report.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if retry_after_s > 0 {
            headers.insert(RETRY_AFTER, retry_after_s.into());
        }
        reply
    }
}

/// Status, content, and when to ask again.
async fn locate(locator: &impl Locator, ends: Ends, request: &Request<Incoming>) -> (StatusCode, Value, u32) {
    let wrong = |status, what: &str| (status, json!({ "error": what }), 0);
    if request.uri().path() != PATH {
        return wrong(StatusCode::NOT_FOUND, "no such path: ask /v1/locate");
    }
    if request.method() != Method::GET {
        return wrong(StatusCode::METHOD_NOT_ALLOWED, "the method must be GET");
    }
    let Some(query) = Query::of(request.uri().query().unwrap_or_default()) else {
        return wrong(StatusCode::BAD_REQUEST, "an escape in the query is none");
    };
    let ip = asker(ends.remote.ip(), request.headers(), locator.geo().trusted_proxies());
    match locator.locate_by_https(ip, query.get("current").unwrap_or_default()).await {
        Ok(reply) => (StatusCode::OK, content(&reply), 0),
        Err(wait_ms) => {
            let content = json!({ "error": "too many questions from this address" });
            (StatusCode::TOO_MANY_REQUESTS, content, wait_ms.div_ceil(1_000))
        }
    }
}

fn content(reply: &LocateReply) -> Value {
    let points = reply.access_points.iter().map(|point| {
        let AccessPoint { id, region, addresses, weight, expected_ms } = point;
        json!({ "id": id, "region": region, "addresses": addresses, "weight": weight, "expected_ms": expected_ms })
    });
    json!({
        "access_points": points.collect::<Vec<_>>(),
        "expires_s": reply.expires_s,
        "token": URL_SAFE_NO_PAD.encode(&reply.token),
    })
}

/// Who asks: the last address on the way here that is no trusted proxy's.
fn asker(connected: IpAddr, headers: &HeaderMap, trusted: &[IpNetwork]) -> IpAddr {
    let mut ip = connected.to_canonical();
    // Each proxy adds whom it has heard; what stands before the first that is not trusted, or no address, may be invented.
    let lines = headers.get_all(FORWARDED_FOR).iter();
    let heard: Vec<&[u8]> = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).collect();
    for text in heard.into_iter().rev() {
        let Some(before) = Some(ip).filter(|ip| is_one_of(trusted, *ip)).and_then(|_| address(text)) else { break };
        ip = before.to_canonical();
    }
    ip
}

/// An address as proxies write it: some add the port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    text.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

fn is_one_of(networks: &[IpNetwork], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geo_03_only_trusted_proxies_say_who_asks() {
        let of = |connected: &str, lines: &[&str], trusted: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            let trusted: Vec<IpNetwork> = trusted.iter().map(|network| network.parse().unwrap()).collect();
            asker(connected.parse().unwrap(), &headers, &trusted).to_string()
        };
        assert_eq!(of("10.0.0.1", &["198.51.100.7"], &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.7"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(of("::ffff:10.0.0.1", &["198.51.100.7"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(of("203.0.113.1", &["198.51.100.7"], &["10.0.0.0/8"]), "203.0.113.1");
        assert_eq!(of("10.0.0.1", &["1.1.1.1, 198.51.100.7"], &["10.0.0.0/8"]), "198.51.100.7", "the rest is invented");
        assert_eq!(of("10.0.0.1", &["1.1.1.1", "198.51.100.7, 10.9.9.9"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["198.51.100.7, nonsense"], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["10.0.0.2"], &["10.0.0.0/8"]), "10.0.0.2");
        assert_eq!(of("10.0.0.1", &[], &["10.0.0.0/8"]), "10.0.0.1");
        // What is no text is no address either, and not left out.
        assert_eq!(of("10.0.0.1", &["203.0.113.9", "é"], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.7:5678"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["[2001:db8::7]:5678"], &["10.0.0.0/8"]), "2001:db8::7");
    }
}
