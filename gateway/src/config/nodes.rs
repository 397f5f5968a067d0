//! What a node of many is, and how it reaches the others: the sections `node` and `link`.
//!
//! A deployment of one node needs none of it: the defaults are that.

use std::{
    fmt::{self, Display},
    net::SocketAddr,
    path::PathBuf,
    str::FromStr,
};

use protocol::{
    link::{NAME_BYTES_MAX, PEER_FRAME_BYTES_MAX},
    link_message::NodeRole,
};

use super::{Config, ConfigError, Key, StoreEngine, Values, key};
use crate::geo::regions::is_id;

/// The keys of both sections.
pub const KEYS: &[Key] = &[
    key(
        "node.name",
        "node",
        "What this node is called in logs, certificates and lists of nodes: each node of a deployment has a name of its own, up to 64 \
         letters, digits, dots, hyphens or underscores.",
    ),
    key(
        "node.role",
        "core",
        "core: reaches the store; edge: near its clients, reaches a core by links and has no store.",
    ),
    key(
        "node.region",
        "",
        "Where this node is: a region of the catalogue (`gateway locate --regions`) or of geo.regions, or any other name beside coordinates. Makes it \
         an access point by node.name, which is then up to 32 letters, digits or hyphens. Empty: not said.",
    ),
    key(
        "node.latitude",
        "",
        "Where this node is, in degrees from -90 (south) to 90. Empty: not said, or as the region.",
    ),
    key("node.longitude", "", "Where this node is, in degrees from -180 (west) to 180. Empty likewise."),
    key(
        "node.addresses",
        "",
        "Where clients reach this node: host:port, several separated by commas. Empty: the address of client.listen, if that is one.",
    ),
    key(
        "node.weight",
        "100",
        "Share of clients that this node is given, beside others that are as good, in percent of the usual. 0: none.",
    ),
    key(
        "node.lease_ms",
        "5000",
        "A node that is not heard of for so long is taken for dead, in milliseconds. It says five times as often that it lives.",
    ),
    key("link.listen", "", "Address and port for links of edges, in a core. Empty: none."),
    key("link.advertise", "", "Where edges reach link.listen, if that is another address. Empty: there."),
    key(
        "link.peers_listen",
        "",
        "Address and port for links of other cores, in a core. Empty: there are no others; if there are, clients read their logs for all that is new.",
    ),
    key(
        "link.peers_advertise",
        "",
        "Where other cores reach link.peers_listen, if that is another address. Empty: there.",
    ),
    key(
        "link.cores",
        "",
        "Cores to begin with, in an edge: host:port of their link.listen, separated by commas. It learns of the others from them, and goes on to those when these take it no more.",
    ),
    key("link.cert", "", "This node's certificate chain for links, PEM. `gateway node-certs` makes some to try out."),
    key("link.key", "", "Private key of that certificate, PEM. Must not be readable by others."),
    key(
        "link.ca",
        "",
        "Authorities that the certificates of all nodes are of, PEM. No public ones: who has such a certificate is a node.",
    ),
    key(
        "link.refused",
        "",
        "File with SHA-256 fingerprints of certificates that have no links any more though an authority of link.ca has signed them, one a \
         line as `openssl x509 -noout -fingerprint -sha256` prints it. Read again on SIGHUP; links that there are end. Empty: none.",
    ),
    key(
        "link.name",
        "im-node",
        "Name (subjectAltName) that the certificates of all nodes are for. Others are refused.",
    ),
    key(
        "link.core_name",
        "im-core",
        "Name that the certificates of cores are for besides: who has none for it, like an edge, is linked with as no core.",
    ),
    key(
        "link.queue_bytes_max",
        "67108864",
        "What may wait to be sent to one other core, in bytes; when it is more, the link is begun anew and sessions read their logs.",
    ),
    key(
        "link.session_window_bytes",
        "131072",
        "What may be under way of one client between edge and core in each direction, in bytes.",
    ),
    key(
        "link.edge_links_max",
        "256",
        "Links that the edge with one certificate has to a core; more are refused. An edge has one for each processor that it uses.",
    ),
    key("link.sessions_max", "10000", "Clients on one link between an edge and a core; more are refused."),
    key(
        "link.late_ms_max",
        "1000",
        "A core that can't be heard for so long is not waited for any more with what others are told, in milliseconds.",
    ),
];

/// What this node is.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub name: String,
    pub role: NodeRole,
    /// Empty: not said.
    pub region: String,
    /// Latitude and longitude, in degrees.
    pub place: Option<(f64, f64)>,
    /// Where clients reach it; empty: where it listens.
    pub addresses: Vec<Target>,
    /// In percent.
    pub weight: u32,
    pub lease_ms: u64,
}

/// How it reaches others.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// For edges.
    pub listen: Option<SocketAddr>,
    pub advertise: Option<SocketAddr>,
    /// For cores.
    pub peers_listen: Option<SocketAddr>,
    pub peers_advertise: Option<SocketAddr>,
    /// Of an edge; a core has none.
    pub cores: Vec<Target>,
    /// There is if there are links.
    pub files: Option<LinkFiles>,
    pub queue_bytes_max: usize,
    pub session_window_bytes: u32,
    /// Of one certificate.
    pub edge_links_max: usize,
    pub sessions_max: u32,
    pub late_ms_max: u64,
}

/// Certificates of links.
#[derive(Clone, Debug)]
pub struct LinkFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
    /// Lists certificates that are refused.
    pub refused: Option<PathBuf>,
    /// What the certificates of all nodes are for.
    pub name: String,
    /// What those of cores are for, too.
    pub core_name: String,
}

/// Where something listens, by name or by address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// An IPv6 address is without brackets.
    pub host: String,
    pub port: u16,
}

impl FromStr for Target {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(())?;
        let is_name = |host: &str| {
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        };
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().map_err(|_| ())?.to_string(),
            None if is_name(host) => host.to_owned(),
            None => return Err(()),
        };
        Ok(Target { host, port })
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Whether something is called rightly: it goes into logs, certificates and names of files.
pub fn is_name(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_fine) && !text.starts_with('.')
}

impl Values {
    pub(super) fn node(&self) -> Result<NodeConfig, ConfigError> {
        const NAME: &str = "1 to 64 letters, digits, dots, hyphens or underscores, the first no dot";
        let (name, region) = (self.text("node.name"), self.text("node.region"));
        if !is_name(name) {
            return Err(self.wrong("node.name", NAME));
        }
        if !region.is_empty() && !is_name(region) {
            return Err(self.wrong("node.region", NAME));
        }
        let place = match (self.degrees("node.latitude", 90.0)?, self.degrees("node.longitude", 180.0)?) {
            (Some(latitude), Some(longitude)) => Some((latitude, longitude)),
            (None, None) => None,
            _ => return Err(ConfigError("node.latitude and node.longitude go together: name both or neither".into())),
        };
        Ok(NodeConfig {
            name: name.to_owned(),
            role: match self.text("node.role") {
                "core" => NodeRole::Core,
                "edge" => NodeRole::Edge,
                _ => return Err(self.wrong("node.role", "core or edge")),
            },
            region: region.to_owned(),
            place,
            addresses: self.targets("node.addresses")?,
            weight: self.number("node.weight", 0, 10_000)?,
            lease_ms: self.number("node.lease_ms", 1_000, 600_000)?,
        })
    }

    pub(super) fn link(&self) -> Result<LinkConfig, ConfigError> {
        let path = |name| Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from);
        let files = match (path("link.cert"), path("link.key"), path("link.ca")) {
            (Some(cert), Some(key), Some(ca)) => {
                let dns_name = |key| {
                    let name = self.text(key);
                    let checked = rustls_pki_types::DnsName::try_from(name);
                    checked.map(|_| name.to_owned()).map_err(|_| self.wrong(key, "a name as DNS has them"))
                };
                let (name, core_name) = (dns_name("link.name")?, dns_name("link.core_name")?);
                if core_name.eq_ignore_ascii_case(&name) {
                    let right = "another name than link.name, which the certificates of edges are for, too";
                    return Err(self.wrong("link.core_name", right));
                }
                Some(LinkFiles { cert, key, ca, refused: path("link.refused"), name, core_name })
            }
            (None, None, None) => None,
            _ => return Err(ConfigError("link.cert, link.key and link.ca go together: name all or none".into())),
        };
        let config = LinkConfig {
            listen: self.address("link.listen")?,
            advertise: self.address("link.advertise")?,
            peers_listen: self.address("link.peers_listen")?,
            peers_advertise: self.address("link.peers_advertise")?,
            cores: self.targets("link.cores")?,
            files,
            queue_bytes_max: self.number("link.queue_bytes_max", 2 * PEER_FRAME_BYTES_MAX, 1 << 40)?,
            session_window_bytes: self.number("link.session_window_bytes", 16_384, 1 << 24)?,
            edge_links_max: self.number("link.edge_links_max", 1, 1_000_000)?,
            sessions_max: self.number("link.sessions_max", 1, 10_000_000)?,
            late_ms_max: self.number("link.late_ms_max", 10, 600_000)?,
        };
        self.advertised("link.advertise", config.advertise, config.listen)?;
        self.advertised("link.peers_advertise", config.peers_advertise, config.peers_listen)?;
        Ok(config)
    }

    /// What others are told is where they can reach it.
    fn advertised(
        &self,
        name: &'static str,
        advertised: Option<SocketAddr>,
        listen: Option<SocketAddr>,
    ) -> Result<(), ConfigError> {
        let told = advertised.or(listen);
        let is_nowhere = advertised.is_some_and(|address| address.port() == 0);
        if is_nowhere || told.is_some_and(|address| address.ip().is_unspecified()) {
            return Err(self.wrong(name, "an address and port that other nodes reach this one by, like 10.0.0.7:9443"));
        }
        Ok(())
    }

    fn address(&self, name: &'static str) -> Result<Option<SocketAddr>, ConfigError> {
        if self.text(name).is_empty() { Ok(None) } else { self.parse(name, "an address like 10.0.0.7:9443").map(Some) }
    }

    fn targets(&self, name: &'static str) -> Result<Vec<Target>, ConfigError> {
        let all = self.text(name).split(',').map(str::trim).filter(|text| !text.is_empty());
        all.map(|text| text.parse().map_err(|()| self.wrong(name, "host:port, several separated by commas"))).collect()
    }

    fn degrees(&self, name: &'static str, max: f64) -> Result<Option<f64>, ConfigError> {
        if self.text(name).is_empty() { Ok(None) } else { self.number(name, -max, max).map(Some) }
    }
}

impl Config {
    /// What of node and links must fit together, and with all the rest.
    pub(super) fn check_nodes(&self, values: &Values) -> Result<(), ConfigError> {
        let wrong = |name, right| Err(values.wrong(name, right));
        let link = &self.link;
        if self.node.role == NodeRole::Edge {
            if link.cores.is_empty() {
                return wrong("link.cores", "host:port of one core at least (node.role is edge)");
            }
            // No secret lies where it is of no use.
            if self.app_file.is_some() {
                return wrong("app.file", "empty where node.role is edge: who logs in is checked by cores alone");
            }
            if link.listen.is_some() {
                return wrong("link.listen", "empty where node.role is edge: only cores take links");
            }
            if link.peers_listen.is_some() {
                return wrong("link.peers_listen", "empty where node.role is edge: only cores take links");
            }
        } else if !link.cores.is_empty() {
            return wrong("link.cores", "empty where node.role is core: cores find each other by the store");
        }
        self.check_here(values)?;
        self.check_access_point(values)?;
        if link.peers_listen.is_some() && self.store_engine == StoreEngine::Embedded {
            return wrong(
                "link.peers_listen",
                "empty where store.engine is embedded: that store is one process's alone, so there are no other cores. \
                 Edges are served by link.listen; several cores need FoundationDB",
            );
        }
        let has_links = link.listen.is_some() || link.peers_listen.is_some() || !link.cores.is_empty();
        if has_links && link.files.is_none() {
            return wrong("link.cert", "named, and link.key and link.ca, where there are links (`gateway node-certs`)");
        }
        let others = [self.client_listen, self.admin_listen, self.api.listen];
        let is_taken = |address: SocketAddr, by: &[SocketAddr]| address.port() != 0 && by.contains(&address);
        if link.listen.is_some_and(|address| is_taken(address, &others)) {
            return wrong("link.listen", "another address than those of client, admin and api");
        }
        let all: Vec<SocketAddr> = others.into_iter().chain(link.listen).collect();
        if link.peers_listen.is_some_and(|address| is_taken(address, &all)) {
            return wrong("link.peers_listen", "another address than those of link, client, admin and api");
        }
        Ok(())
    }

    /// Others know this node by its name alone.
    fn check_here(&self, values: &Values) -> Result<(), ConfigError> {
        let is_one_of_several = self.link.files.is_some() || self.store_engine != StoreEngine::Embedded;
        let here = &self.geo.here;
        if is_one_of_several && !here.is_empty() && *here != self.node.name {
            let right = format!("\"{here}\" where geo.here is: other nodes know this one by its name");
            return Err(values.wrong("node.name", &right));
        }
        Ok(())
    }

    /// A node that says where it is can be told to clients, and reached by them.
    fn check_access_point(&self, values: &Values) -> Result<(), ConfigError> {
        let node = &self.node;
        if node.region.is_empty() && node.place.is_none() {
            return Ok(());
        }
        if !is_id(&node.name) {
            let right =
                "1 to 32 letters, digits or hyphens where the node says where it is: clients are told it by that";
            return Err(values.wrong("node.name", right));
        }
        if node.place.is_none() && !self.geo.regions.iter().any(|region| region.id == node.region) {
            let right = "in the catalogue (`gateway locate --regions`) or in geo.regions, unless node.latitude and \
                         node.longitude are named";
            return Err(values.wrong("node.region", right));
        }
        if node.addresses.is_empty() && self.client_listen.ip().is_unspecified() {
            let right = "host:port that clients reach this node by, where it says where it is and client.listen is all \
                         addresses of the machine";
            return Err(values.wrong("node.addresses", right));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &str); 3] = [("link.cert", "c"), ("link.key", "k"), ("link.ca", "a")];

    const POINT: &str = r#"[{ id = "fra-1", addresses = ["h:1"], region = "germany" }]"#;

    fn check(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut values = Values::default();
        for (name, value) in pairs {
            values.set(name, (*value).to_owned())?;
        }
        values.check()
    }

    fn with_files(pairs: &[(&'static str, &'static str)]) -> Result<Config, ConfigError> {
        check(&[&FILES, pairs].concat())
    }

    #[test]
    fn geo_01_one_node_alone_is_a_core_without_links() {
        let Config { node, link, .. } = check(&[]).unwrap();
        assert_eq!((node.role, node.name.as_str(), node.place), (NodeRole::Core, "node", None));
        assert!(link.listen.is_none() && link.peers_listen.is_none() && link.files.is_none() && link.cores.is_empty());
    }

    #[test]
    fn geo_01_an_edge_and_a_core_are_told_of_each_other() {
        let edge = with_files(&[
            ("node.role", "edge"),
            ("node.name", "tokyo-1"),
            ("node.region", "ap-northeast-1"),
            ("node.latitude", "35.68"),
            ("node.longitude", "139.69"),
            ("link.cores", "core-1.example:9443, [::1]:9444"),
        ]);
        let Config { node, link, .. } = edge.unwrap();
        assert_eq!((node.role, node.place), (NodeRole::Edge, Some((35.68, 139.69))));
        let cores: Vec<String> = link.cores.iter().map(Target::to_string).collect();
        assert_eq!((cores, &*link.cores[1].host), (vec!["core-1.example:9443".into(), "[::1]:9444".into()], "::1"));
        let core = with_files(&[("link.listen", "0.0.0.0:9443"), ("link.advertise", "10.0.0.7:9443")]).unwrap();
        assert_eq!(core.link.advertise, Some(([10, 0, 0, 7], 9443).into()));
        assert_eq!(core.link.files.unwrap().name, "im-node");
    }

    #[test]
    fn geo_01_an_edge_in_production_has_a_certificate_and_no_application() {
        let tls = [("tls.cert", "c"), ("tls.key", "k")];
        let edge = with_files(&[&tls[..], &[("node.role", "edge"), ("link.cores", "core:9443")]].concat()).unwrap();
        assert!(edge.tls.is_some() && edge.app_file.is_none());
        assert!(with_files(&tls).unwrap_err().to_string().starts_with("app.file is empty"), "a core needs one");
    }

    #[test]
    fn geo_03_a_node_is_the_access_point_that_is_called_like_it() {
        let here = |pairs: &[(&str, &str)]| check(&[&[("geo.access_points", POINT)], pairs].concat()).unwrap().geo.here;
        assert_eq!(here(&[]), "");
        assert_eq!(here(&[("node.name", "fra-1")]), "fra-1");
        assert_eq!(here(&[("geo.here", "fra-1")]), "fra-1", "one node alone may be called otherwise");
    }

    #[test]
    fn geo_03_a_node_says_where_its_region_is() {
        let atlantis = r#"[{ id = "atlantis", country = "PT", coordinates = [31.0, -24.0] }]"#;
        let of = |pairs: &[(&str, &str)]| {
            let config = check(&[&[("node.region", "atlantis")], pairs].concat()).unwrap();
            let record = crate::nodes::record(&config, config.client_listen, None, 10);
            (record.region, record.latitude, record.longitude)
        };
        assert_eq!(of(&[("geo.regions", atlantis)]), ("atlantis".into(), Some(31.0), Some(-24.0)));
        let own = [("node.latitude", "1"), ("node.longitude", "2")];
        assert_eq!(of(&own), ("atlantis".into(), Some(1.0), Some(2.0)));
    }

    #[test]
    fn geo_01_what_does_not_fit_together_is_refused_in_words() {
        let edge = |pair| with_files(&[("node.role", "edge"), ("link.cores", "core:9443"), pair]);
        for (checked, expected) in [
            (check(&[("node.name", "a b")]), "node.name is \"a b\", but must be 1 to 64 letters"),
            (check(&[("node.name", "../a")]), "node.name is \"../a\""),
            (check(&[("node.region", "?")]), "node.region is \"?\""),
            (
                with_files(&[("geo.access_points", POINT), ("geo.here", "fra-1"), ("node.name", "fra-2")]),
                "node.name is \"fra-2\", but must be \"fra-1\" where geo.here is",
            ),
            (check(&[("node.region", "japann")]), "node.region is \"japann\", but must be in the catalogue"),
            (
                check(&[("node.region", "japan"), ("node.name", "tokyo_1")]),
                "node.name is \"tokyo_1\", but must be 1 to 32 letters, digits or hyphens where",
            ),
            (
                check(&[("node.region", "japan"), ("client.listen", "0.0.0.0:443")]),
                "node.addresses is \"\", but must be host:port",
            ),
            (check(&[("node.role", "both")]), "node.role is \"both\", but must be core or edge"),
            (
                check(&[("node.latitude", "91"), ("node.longitude", "0")]),
                "node.latitude is \"91\", but must be a number",
            ),
            (check(&[("node.latitude", "NaN"), ("node.longitude", "0")]), "node.latitude is \"NaN\""),
            (check(&[("node.latitude", "1")]), "node.latitude and node.longitude go together"),
            (check(&[("node.addresses", "im.example")]), "node.addresses is \"im.example\", but must be host:port"),
            (check(&[("node.lease_ms", "10")]), "node.lease_ms is \"10\""),
            (check(&[("link.cert", "c")]), "link.cert, link.key and link.ca go together"),
            (check(&[("link.listen", "127.0.0.1:9443")]), "link.cert is \"\", but must be named"),
            (check(&[("link.queue_bytes_max", "1024")]), "link.queue_bytes_max is \"1024\""),
            (check(&[("link.edge_links_max", "0")]), "link.edge_links_max is \"0\""),
            (with_files(&[("link.name", "a b")]), "link.name is \"a b\""),
            (
                with_files(&[("link.name", "IM-core")]),
                "link.core_name is \"im-core\", but must be another name than link.name",
            ),
            (
                with_files(&[("link.listen", "0.0.0.0:9443")]),
                "link.advertise is \"\", but must be an address and port that",
            ),
            (with_files(&[("link.listen", "nowhere")]), "link.listen is \"nowhere\""),
            (
                with_files(&[("link.listen", "127.0.0.1:8443")]),
                "link.listen is \"127.0.0.1:8443\", but must be another",
            ),
            (
                with_files(&[("link.peers_listen", "127.0.0.1:9444")]),
                "link.peers_listen is \"127.0.0.1:9444\", but must be empty where store.engine is embedded",
            ),
            (
                with_files(&[("link.cores", "core:9443")]),
                "link.cores is \"core:9443\", but must be empty where node.role is core",
            ),
            (with_files(&[("node.role", "edge")]), "link.cores is \"\", but must be host:port of one core"),
            (edge(("link.cores", "core:0")), "link.cores is \"core:0\""),
            (edge(("app.file", "app.json")), "app.file is \"app.json\", but must be empty where node.role is edge"),
            (
                edge(("link.listen", "127.0.0.1:9443")),
                "link.listen is \"127.0.0.1:9443\", but must be empty where node.role is edge",
            ),
            (
                edge(("link.peers_listen", "127.0.0.1:9443")),
                "link.peers_listen is \"127.0.0.1:9443\", but must be empty",
            ),
        ] {
            let error = checked.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}, not {expected}");
        }
    }
}
