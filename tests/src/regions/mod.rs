//! Regions far apart on one machine: network namespaces, and a network between them that delays, loses and falls silent.
//!
//! - [`alone`] runs a test once more in a network of its own, where it may do what it likes. The test host's network is
//!   never touched. Takes root or user namespaces, and the programs `unshare` and `ip`.
//! - [`Regions`] makes the namespaces within it. What [`Region::within`] runs finds itself in one: sockets and processes
//!   made there stay there.
//! - The network itself is `router.rs`.
//!
//! There is nothing to clean up: a namespace ends with the last file, socket or process in it, and takes its interfaces
//! along. So all are gone when the process that [`alone`] starts has ended, and what that has started.

mod alone;
mod router;

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd as _,
    panic::resume_unwind,
    process::{Command, Stdio},
    thread,
};

pub use alone::alone;
use alone::is_alone;
use router::Router;
pub use router::Way;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Regions, and the network between them.
pub struct Regions {
    regions: Vec<Region>,
    router: Router,
}

/// A place with a network of its own: a machine of it has the address [`Region::address`], and its own loopback.
pub struct Region {
    /// Also that of the interface which leads there.
    name: String,
    number: u8,
    namespace: File,
}

impl Regions {
    /// Makes regions with these names, of 15 characters at the most. Between them nothing passes until a way is set.
    /// Only within [`alone`], once.
    pub fn start(names: &[&str]) -> Regions {
        assert!(is_alone(), "this process has the host's network");
        // Packets are the router's alone.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("a network of this process");
        let regions = (1..).zip(names).map(|(number, name)| Region::start(name, number)).collect();
        Regions { regions, router: Router::start() }
    }

    /// One of them.
    pub fn at(&self, name: &str) -> &Region {
        self.regions.iter().find(|region| region.name == name).expect("a region of this name")
    }

    /// What lies between two regions from now on, in either direction.
    pub fn set_way(&self, one: &str, other: &str, way: Way) {
        let (one, other) = (self.at(one).number, self.at(other).number);
        self.router.set_way(one, other, way);
        self.router.set_way(other, one, way);
    }
}

impl Region {
    fn start(name: &str, number: u8) -> Region {
        let region = Region { name: name.to_owned(), number, namespace: new_namespace() };
        let (here, gateway, parent) = (region.address(), Ipv4Addr::from([10, 77, number, 1]), std::process::id());
        region.within(|| {
            ip("link set lo up");
            ip(&format!("link add name out type veth peer name {name} netns {parent}"));
            ip(&format!("address add {here}/24 dev out"));
            // Segments as they go over a wire, not some at once: the router passes no more than fits one.
            ip("link set out gso_max_segs 1 up");
            ip(&format!("route add default via {gateway}"));
        });
        ip(&format!("address add {gateway}/24 dev {name}"));
        region.mend();
        region
    }

    /// Where others find it.
    pub fn address(&self) -> IpAddr {
        router::address(self.number).into()
    }

    /// Does something in this region.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let there = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.namespace.as_fd(), network).expect("a namespace to enter");
            act()
        };
        thread::scope(|scope| scope.spawn(there).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Takes the link down that leads there: what is sent, either way, vanishes, and nobody is told.
    pub fn cut(&self) {
        ip(&format!("link set {} down", self.name));
    }

    /// Takes it up again.
    pub fn mend(&self) {
        ip(&format!("link set {} up", self.name));
    }
}

/// A network namespace with nothing in it but a loopback that is down.
fn new_namespace() -> File {
    let mut holder = Command::new("unshare");
    holder.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().expect("unshare starts");
    let (mut input, mut output) = (holder.stdin.take().expect("piped"), holder.stdout.take().expect("piped"));
    // What echoes is there already.
    input.write_all(b".").expect("it reads");
    output.read_exact(&mut [0]).expect("an echo");
    let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).expect("its namespace");
    drop(input);
    assert!(holder.wait().expect("a child of ours").success());
    namespace
}

/// Runs `ip` in the namespace of the calling thread.
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip starts");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
