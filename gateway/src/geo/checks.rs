//! What is looked after in the background: whether access points can be reached, and whether the location database was
//! replaced.
//!
//! A check is a TCP connection from this node. It says less than a lease would, and nothing of the way from a client; but
//! a dead machine is found by it, and if it is this node that is cut off, all look dead and none is left out.

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
const CHECKS_AT_ONCE: usize = 32;

/// Starts it, on a thread of its own, until nobody holds `geo` any more.
pub fn start(geo: &Arc<Geo>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let geo = Arc::downgrade(geo);
    std::thread::Builder::new().name("geo".into()).spawn(move || {
        runtime.block_on(async { tokio::join!(watch_database(geo.clone()), check_all(geo)) });
    })?;
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
        let nodes = geo.directory.nodes();
        let others = nodes.iter().filter(|node| node.point.id != geo.config.here);
        let checks = others.map(|node| async move { tell(node, node.checked(is_reached(node).await, FAILURES_MAX)) });
        futures::stream::iter(checks).for_each_concurrent(CHECKS_AT_ONCE, |check| check).await;
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
