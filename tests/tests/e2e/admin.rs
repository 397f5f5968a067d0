//! The admin endpoint, and what must never be seen from outside.
//!
//! Goal: operators see health, readiness and the promised figures, and nobody finds a secret, a credential
//! or a message in output or metrics. Mechanics: some traffic, then a scrape; a run at the most talkative
//! level whose whole output is searched. Without it a dashboard would be empty, or a log file would be
//! worth stealing.

use std::net::TcpStream;

use tests::{App, Gateway};

#[test]
fn health_readiness_and_nothing_else() {
    let gateway = Gateway::start();
    assert_eq!(gateway.get("/healthz"), Some((200, "ok\n".into())));
    assert_eq!(gateway.get("/readyz"), Some((200, "ready\n".into())));
    assert_eq!(gateway.get("/secrets").map(|(status, _)| status), Some(404));
    assert!(gateway.admin_address().ip().is_loopback());
}

#[test]
fn the_promised_families_are_there_and_count() {
    let gateway = Gateway::start();
    let mut ben = gateway.login("ben");
    let mut anna = gateway.login("anna");
    for _ in 0..10 {
        anna.send("ben", "hello");
    }
    (0..10).for_each(|_| drop(ben.next_message()));
    anna.send_as("nobody", b"1", tests::text_body("hello")).expect_err("a refusal");
    drop(TcpStream::connect(gateway.address()).expect("a connection"));
    gateway.wait_metric("gateway_tls_failures_total", &[("kind", "end_of_stream")], 1.0);

    let metrics = gateway.metrics();
    let exactly = [
        ("gateway_connections", 2.0),
        ("gateway_sessions", 2.0),
        ("gateway_logins_total", 2.0),
        ("gateway_messages_total", 10.0),
        ("gateway_pushes_total", 10.0),
        ("gateway_handshakes_total", 2.0),
        ("gateway_requests_refused_total", 1.0),
        ("gateway_panics_total", 0.0),
        ("gateway_accept_errors_total", 0.0),
        ("gateway_connections_refused_total", 0.0),
    ];
    for (name, expected) in exactly {
        assert!(metrics.has(name, &[]), "{name} is missing");
        assert_eq!(metrics.sum(name, &[]), expected, "{name}");
    }
    let cores = std::thread::available_parallelism().expect("a number").get();
    for core in 0..cores {
        assert!(metrics.has("gateway_connections", &[("core", &core.to_string())]), "core {core}");
    }
    assert!(metrics.has("gateway_events_dropped_total", &[("reason", "slow_reader")]));
    for queue in ["gateway_mailbox_events", "gateway_sends_unanswered", "store_queue_depth"] {
        assert!(metrics.has(queue, &[]), "{queue} is missing");
    }
    // What only the embedded engine does.
    let own = ["store_sync_seconds", "store_sync_batch_commits"].iter().filter(|_| !tests::has_no_embedded_store());
    for histogram in ["store_commit_seconds", "send_batch_messages"].iter().chain(own) {
        assert!(metrics.has(&format!("{histogram}_bucket"), &[("le", "+Inf")]), "{histogram} is missing");
        assert!(metrics.sum(&format!("{histogram}_count"), &[]) > 0.0, "{histogram}");
    }
    assert!(metrics.sum("process_resident_memory_bytes", &[]) > 1e6);
    assert!(metrics.sum("process_cpu_seconds_total", &[]) > 0.0);
    assert!(metrics.sum("process_open_fds", &[]) > 0.0);
    for family in metrics.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = family.split(' ').next().unwrap_or_default();
        assert!(metrics.0.contains(&format!("# HELP {name} ")), "{name} is not explained");
    }
}

#[test]
fn acc_06_secrets_credentials_and_messages_appear_nowhere() {
    let gateway = Gateway::builder().flag("log", "debug").start();
    let app = gateway.app().clone();
    let wrong = App { secret: "f".repeat(64), sdkappid: app.sdkappid };
    let text = "for your eyes only";
    let credentials = [app.sign("anna"), wrong.sign("anna"), app.sign_at("anna", 1_600_000_000, 60), app.sign("ben")];
    for usersig in &credentials {
        let _ = gateway.connect("anna").login_with(app.sdkappid, usersig.clone());
    }
    let _ = gateway.connect("anna").login_with(7, credentials[0].clone());
    gateway.login("anna").send("anna", text);
    let metrics = gateway.metrics().0;
    let (_, output, builder) = gateway.stop();
    // A start that fails on the application file, too.
    let file = builder.folder().join("broken.json");
    std::fs::write(&file, format!("{{\"sdkappid\": \"x\", \"secret\": \"{}\"}}", app.secret)).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our own file");
    let refused = builder.flag("app-file", file.display()).fails();
    for seen in [&metrics, &output, &refused] {
        for secret in credentials.iter().map(String::as_str).chain([&app.secret[..], text]) {
            assert!(!seen.contains(secret), "{secret:?} can be seen in:\n{seen}");
        }
    }
    assert!(output.contains("DEBUG"), "the level was set");
}
