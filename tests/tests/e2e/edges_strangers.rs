//! What an edge is trusted with, and what a core takes of one (GEO-01).
//!
//! Goal: an edge needs no secret of an application, and one that keeps no rules, or is too many, is told so and harms
//! nobody. Mechanics: edges as processes, and a test that speaks as an edge itself, with an edge's certificate. Without
//! it a machine far away would hold secrets for nothing, or take all that a core has.

use std::{fs, net::SocketAddr};

use tests::{Builder, Gateway, free_port, node_certificates};

use crate::{edges::wait_linked, production::production};

/// A production core that takes edges, where it does, and the certificates of the nodes.
fn production_core() -> (Gateway, SocketAddr, tempfile::TempDir) {
    let certificates = node_certificates(&["core"], &["east"]);
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let core = production().node(certificates.path(), "core").flag("link-listen", listen).start();
    (core, listen, certificates)
}

/// An edge with the clients' certificate of `core`, as the README has it.
fn production_edge(core: &Gateway, listen: SocketAddr, certificates: &tempfile::TempDir) -> Builder {
    let file = |name: &str| core.built_from().folder().join(name).display().to_string();
    let edge = core.built_from().another().node(certificates.path(), "east").edge(listen);
    edge.flag("tls-cert", file("cert.pem")).flag("tls-key", file("key.pem"))
}

#[test]
fn geo_01_an_edge_in_production_needs_no_application() {
    let (core, listen, certificates) = production_core();
    let edge = production_edge(&core, listen, &certificates).start();
    wait_linked(&edge);
    edge.login("anna").ping();
    let made = fs::read_dir(edge.data().join("dev")).expect("the test's own");
    let made: Vec<_> = made.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(made, ["app.json"], "that is where the test has the core's");
}

#[test]
fn geo_01_an_edge_takes_no_secret_of_an_application() {
    let (core, listen, certificates) = production_core();
    let secret = core.built_from().folder().join("app.json").display().to_string();
    let output = production_edge(&core, listen, &certificates).flag("app-file", secret).fails();
    assert!(output.contains("app.file is ") && output.contains("must be empty where node.role is edge"), "{output}");
}
