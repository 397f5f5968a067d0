//! What is looked after in the background: whether access points can be reached, and whether the location database was
//! replaced.
//!
//! A check is a TCP connection from this node to an access point that the configuration names. It says less than a lease,
//! which nodes of the deployment have instead ([`super::members`]), and nothing of the way from a client; but a dead
//! machine is found by it. Where none can be reached, it may be this node that is cut off: then nothing is said of anybody.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::StreamExt;
use tokio::{
    net::TcpStream,
    time::{interval, timeout},
};

use super::{Geo, directory::Node};

/// How often the database file is looked at.
const DATABASE_INTERVAL: Duration = Duration::from_secs(1);

/// For how long a check waits for a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// Checks that fail in a row before an access point counts as unhealthy.
const FAILURES_MAX: u32 = 3;

/// Checks at a time.
const CHECKS_AT_ONCE: usize = 256;

/// Starts to look after both, until nobody holds `geo` any more.
pub fn start(geo: &Arc<Geo>) -> anyhow::Result<()> {
    let geo = Arc::downgrade(geo);
    run(async { _ = tokio::join!(watch_database(geo.clone()), check_all(geo)) })
}

/// The same for the database alone: an edge's core says how access points are.
pub fn start_without_checks(geo: &Arc<Geo>) -> anyhow::Result<()> {
    run(watch_database(Arc::downgrade(geo)))
}

/// On a thread of its own.
fn run(task: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("geo".into()).spawn(move || runtime.block_on(task))?;
    Ok(())
}

async fn watch_database(geo: Weak<Geo>) {
    let mut interval = interval(DATABASE_INTERVAL);
    loop {
        interval.tick().await;
        let Some(geo) = geo.upgrade() else { return };
        match geo.database.refresh() {
            Ok(false) => {}
            Ok(true) => tracing::info!("geo.database reloaded"),
            Err(error) => tracing::warn!("geo.database not reloaded, the old one stays in use: {error:#}"),
        }
    }
}

async fn check_all(geo: Weak<Geo>) {
    let Some(every_s) = geo.upgrade().map(|geo| geo.config.check_seconds).filter(|seconds| *seconds > 0) else {
        return;
    };
    let mut interval = interval(Duration::from_secs(every_s.into()));
    loop {
        interval.tick().await;
        let Some(geo) = geo.upgrade() else { return };
        check(checked(&geo)).await;
    }
}

/// Those that nobody but a check says anything of.
fn checked(geo: &Geo) -> Vec<Arc<Node>> {
    let nodes = geo.directory.nodes();
    nodes.iter().filter(|node| node.point.id != geo.config.here && !node.is_leased()).cloned().collect()
}

/// One round. One in which none is reached says more of this node than of them.
async fn check(nodes: Vec<Arc<Node>>) {
    let checks = futures::stream::iter(nodes).map(async |node| (is_reached(&node).await, node));
    let found: Vec<(bool, Arc<Node>)> = checks.buffer_unordered(CHECKS_AT_ONCE).collect().await;
    if found.iter().any(|(is_reached, _)| *is_reached) {
        found.iter().for_each(|(is_reached, node)| tell(node, node.checked(*is_reached, FAILURES_MAX)));
    }
}

/// Whether one of its addresses takes connections.
async fn is_reached(node: &Node) -> bool {
    for address in &node.point.addresses {
        if matches!(timeout(CONNECT_TIME_MAX, TcpStream::connect(address)).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
}

/// Says it if it is news.
fn tell(node: &Node, news: Option<bool>) {
    match news {
        None => {}
        Some(true) => tracing::info!(access_point = node.point.id, "can be reached again"),
        Some(false) => tracing::warn!(access_point = node.point.id, "can't be reached: clients are sent elsewhere"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use backend::domain::nodes::NodeRecord;

    use super::{super::tests::config, *};

    fn geo(addresses: [String; 3], here: &str) -> Geo {
        let (mut config, _folder) = config();
        for (point, address) in config.access_points.iter_mut().zip(addresses) {
            point.addresses = vec![address];
        }
        config.here = here.to_owned();
        Geo::open(config, [7; 32]).unwrap()
    }

    async fn healthy(geo: &Geo, rounds: u32) -> Vec<String> {
        for _ in 0..rounds {
            check(checked(geo)).await;
        }
        let nodes = geo.directory.nodes();
        nodes.iter().filter(|node| node.status().healthy).map(|node| node.point.id.clone()).collect()
    }

    /// A port that is taken, and where nobody listens.
    struct Closed(socket2::Socket);

    impl Closed {
        fn new() -> Self {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            Closed(socket)
        }

        fn address(&self) -> String {
            self.0.local_addr().unwrap().as_socket().unwrap().to_string()
        }
    }

    #[tokio::test]
    async fn geo_03_who_reaches_nobody_says_nothing_of_anybody() {
        let (all, closed) = (["paris", "frankfurt", "tokyo"], Closed::new());
        let closed = || closed.address();
        let alone = geo([closed(), closed(), closed()], "frankfurt");
        assert_eq!(healthy(&alone, 2 * FAILURES_MAX).await, all, "this node is cut off, or its way out is closed");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().to_string();
        let one_is_dead = geo([closed(), closed(), open], "frankfurt");
        assert_eq!(healthy(&one_is_dead, FAILURES_MAX - 1).await, all);
        assert_eq!(healthy(&one_is_dead, 1).await, ["frankfurt", "tokyo"]);
    }

    #[test]
    fn geo_03_nodes_that_have_a_lease_are_not_checked() {
        let addresses = ["a:1", "b:1", "c:1"].map(str::to_owned);
        let geo = geo(addresses, "frankfurt");
        let (name, addresses) = ("edge".to_owned(), vec!["d:1".to_owned()]);
        let place = (Some(1.0), Some(2.0));
        let edge = NodeRecord { name, addresses, latitude: place.0, longitude: place.1, ..NodeRecord::default() };
        geo.follow(&[(1, edge)]);
        assert_eq!(geo.directory.nodes().len(), 4);
        let ids: Vec<String> = checked(&geo).iter().map(|node| node.point.id.clone()).collect();
        assert_eq!(ids, ["paris", "tokyo"]);
    }
}
