//! Where clients are told to connect: the section `geo`.

use std::path::PathBuf;

use super::{ConfigError, Key, Values, key};
use crate::geo::{GeoConfig, access_points};

/// The keys of the section.
pub const KEYS: &[Key] = &[
    key(
        "geo.listen",
        "127.0.0.1:8445",
        "Address and port of /v1/locate, HTTPS with the certificate of tls.cert: tells clients where to connect. Empty: not served.",
    ),
    key("geo.connections_max", "1000", "Connections to it; more are closed at once."),
    key(
        "geo.connections_per_address_max",
        "100",
        "Those of one address (of IPv6, a /56) that is none of geo.trusted_proxies; more are closed at once. Each asks once.",
    ),
    key(
        "geo.access_points",
        "[]",
        "Where clients may connect: a [[geo.access_points]] table for each, with id, addresses ([\"im.example.com:443\"]) and region, and if \
         need be coordinates ([latitude, longitude]), weight (100), capacity (sessions; 0: not known) and drained (false). Empty: \
         clients are told to stay where they are.",
    ),
    key(
        "geo.regions",
        "[]",
        "Regions beside the catalogue (`gateway locate --regions` prints it), or in place of one: a [[geo.regions]] table for each, with id, \
         name, country (two letters) and coordinates.",
    ),
    key(
        "geo.here",
        "",
        "Which of the access points this gateway is, by its id: how full it is then counts. Empty: the one called as node.name, if there is one. Where there are \
         other nodes it is none but that: they know this one by its name.",
    ),
    key(
        "geo.database",
        "",
        "IP location database in the MaxMind DB format, by city or by country. Read again when it is replaced. Empty: none.",
    ),
    key(
        "geo.expires_seconds",
        "300",
        "For how long clients go by what they were told, in seconds; somewhat less for some, so that they don't all ask at once.",
    ),
    key(
        "geo.locates_per_second",
        "20",
        "Times an address (of IPv6, a /56) may ask where to connect, or report what it has measured, each second; five times as often at once. 0: no limit.",
    ),
    key(
        "geo.trusted_proxies",
        "",
        "Networks, separated by commas, of proxies whose X-Forwarded-For says who asks /v1/locate. Empty: nobody's does.",
    ),
    key(
        "geo.check_seconds",
        "10",
        "How often it is checked that geo.access_points take connections, in seconds; after three failures, while others are reached, clients are sent elsewhere. 0: never.",
    ),
];

impl Values {
    pub(super) fn geo(&self) -> Result<GeoConfig, ConfigError> {
        let of = |name: &str, wrong: String| ConfigError(format!("{name}: {wrong}"));
        let regions =
            access_points::read_regions(self.text("geo.regions")).map_err(|wrong| of("geo.regions", wrong))?;
        let points = access_points::read(self.text("geo.access_points"), &regions);
        let access_points = points.map_err(|wrong| of("geo.access_points", wrong))?;
        let is_configured = |id: &str| access_points.iter().any(|point| point.id == id);
        let here = match (self.text("geo.here"), self.text("node.name")) {
            ("", name) => {
                // What it says of itself makes it one.
                let is_somewhere = ["node.region", "node.latitude"].iter().any(|name| !self.text(name).is_empty());
                if is_somewhere || is_configured(name) { name.to_owned() } else { String::new() }
            }
            (here, _) if is_configured(here) => here.to_owned(),
            _ => return Err(self.wrong("geo.here", "the id of one of geo.access_points")),
        };
        let listen = match self.text("geo.listen") {
            "" => None,
            _ => Some(self.parse("geo.listen", "an address like 127.0.0.1:8445, or empty")?),
        };
        let proxies = self.text("geo.trusted_proxies").split(',').map(str::trim).filter(|text| !text.is_empty());
        let trusted_proxies = proxies
            .map(|text| {
                text.parse().map_err(|_| self.wrong("geo.trusted_proxies", "networks like 10.0.0.0/8, 2001:db8::/32"))
            })
            .collect::<Result<_, _>>()?;
        Ok(GeoConfig {
            listen,
            connections_max: self.number("geo.connections_max", 1, 1_000_000)?,
            connections_per_address_max: self.number("geo.connections_per_address_max", 1, 1_000_000)?,
            access_points,
            regions,
            here,
            database: Some(self.text("geo.database")).filter(|text| !text.is_empty()).map(PathBuf::from),
            expires_seconds: self.number("geo.expires_seconds", 1, 86_400)?,
            locates_per_second: self.number("geo.locates_per_second", 0, 1_000_000)?,
            trusted_proxies,
            check_seconds: self.number("geo.check_seconds", 0, 3_600)?,
        })
    }
}
