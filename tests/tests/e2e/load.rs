//! The load harness against a real gateway, one that is killed included.
//!
//! Goal: what the README tells a newcomer to run works, and its verdict holds when the gateway dies under
//! it. Mechanics: the `loadtest` program as a child; kill -9 and a new start on the same ports while it runs; edges.
//! Without it the harness could report success on a gateway that loses messages, or failure on a good one.

use std::process::Command;

use tests::{Gateway, Process, free_port, program};

use crate::edges::Scene;

/// Runs a scenario against the gateway; the child, to be waited for.
fn loadtest(gateway: &Gateway, arguments: &[&str]) -> Process {
    loadtest_at(&[("", gateway)], arguments)
}

/// Runs a scenario against several gateways of one deployment, each behind what is written before its address. The first
/// one has the application.
fn loadtest_at(targets: &[(&str, &Gateway)], arguments: &[&str]) -> Process {
    let each = |text: &dyn Fn(&str, &Gateway) -> String| {
        targets.iter().map(|(region, gateway)| text(region, gateway)).collect::<Vec<_>>().join(",")
    };
    let (_, first) = targets[0];
    let mut command = Command::new(program("loadtest"));
    command.args(arguments).args(["--report", "json"]);
    command.arg("--target").arg(each(&|region, gateway| format!("{region}{}", gateway.address())));
    command.arg("--ca").arg(each(&|_, gateway| gateway.certificate().display().to_string()));
    command.arg("--admin").arg(format!("http://{}", first.admin_address()));
    command.arg("--app-file").arg(first.data().join("dev/app.json"));
    Process::start(command)
}

/// Waits for the end of a run that must be good; its report.
fn report(mut run: Process) -> serde_json::Value {
    let line = run.line().unwrap_or_default();
    let status = run.wait();
    assert_eq!(status.code(), Some(0), "{}", run.output());
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("no JSON on one line: {error}: {}", run.output()))
}

fn assert_nothing_lost(report: &serde_json::Value) {
    for broken in ["lost", "duplicated", "reordered"] {
        assert_eq!(report[broken], 0, "{broken}: {report}");
    }
    assert!(report["acked"].as_u64() > Some(0), "{report}");
}

#[test]
fn each_scenario_reports_what_was_promised() {
    let gateway = Gateway::builder().own_app_file().start(); // with the default login policy
    for scenario in ["c2c", "sync", "reconnect", "ping", "idle", "login"] {
        let report = report(loadtest(&gateway, &[scenario, "--seconds", "1", "--connections", "4"]));
        assert_eq!(report["scenario"], scenario);
        for field in
            ["connections", "seconds", "sent", "acked", "delivered", "errors", "per_second", "ack_ms", "server"]
        {
            assert!(report.get(field).is_some(), "{field} is missing in {report}");
        }
        if ["c2c", "sync", "reconnect"].contains(&scenario) {
            assert_nothing_lost(&report);
            assert!(report["server"]["rss_bytes"].as_f64() > Some(1e6), "{report}");
        }
    }
}

#[test]
fn what_the_server_api_sends_and_tells_everybody_is_all_there() {
    let gateway = Gateway::builder().own_app_file().flag("api-rate-percent", 0).start();
    let run = |arguments: &[&str]| {
        let api = gateway.api_address().to_string();
        let short = ["--seconds", "1", "--connections", "4", "--api", &api];
        report(loadtest(&gateway, &[arguments, &short].concat()))
    };
    for command in ["sendmsg", "batchsendmsg"] {
        let report = run(&["api", command, "--accounts", "50"]);
        assert_nothing_lost(&report);
        assert_eq!(report["errors"], 0, "{report}");
        assert!(report["delivered"].as_u64() >= report["acked"].as_u64(), "{report}");
    }
    let report = run(&["push", "--accounts", "150", "--later", "20", "--rate", "100"]);
    assert_nothing_lost(&report);
    let push = &report["push"];
    assert_eq!((&push["told_online"], &push["told_later"], &report["errors"]), (&4.into(), &20.into(), &0.into()));
}

#[test]
fn what_is_said_in_groups_and_live_rooms_reaches_everybody_there() {
    let settings = serde_json::json!({ "group_sends_per_second": 0, "group_fanout_max": 5 });
    let gateway = Gateway::builder().more_settings(&settings).start();
    let small_and_large = [["--groups", "3", "--members", "4"], ["--groups", "2", "--members", "8"]];
    for size in small_and_large {
        let report = report(loadtest(&gateway, &[&["group", "--seconds", "1", "--rate", "200"], &size[..]].concat()));
        assert_nothing_lost(&report);
        assert_eq!(
            (&report["errors"], &report["unknown"], &report["shed"]),
            (&0.into(), &0.into(), &0.into()),
            "{report}"
        );
        assert_eq!(report["to_all"], report["acked"], "{report}");
        assert!(report["last_delivery_ms"]["p99"].as_f64() > Some(0.0), "{report}");
    }
    let room = ["room", "--seconds", "1", "--rate", "100", "--members", "30", "--senders", "3", "--guests", "10"];
    let report = report(loadtest(&gateway, &[&room[..], &["--threads", "2"]].concat()));
    assert_nothing_lost(&report);
    assert_eq!(
        (&report["errors"], &report["shed"], &report["to_all"]),
        (&0.into(), &0.into(), &report["acked"]),
        "{report}"
    );
    assert!(report["server"]["bytes_per_connection"].as_u64().is_some(), "{report}");
}

#[test]
fn a_mix_of_types_arrives_byte_for_byte() {
    let gateway = Gateway::builder().own_app_file().start();
    let report = report(loadtest(&gateway, &["c2c", "--types", "--seconds", "1", "--connections", "4"]));
    assert_nothing_lost(&report);
    assert_eq!(report["errors"], 0, "{report}");
}

#[test]
fn devices_that_come_and_go_miss_nothing() {
    let gateway = Gateway::builder().own_app_file().start(); // the default policy: a second device is on the web
    let often = ["--seconds", "2", "--connections", "8", "--online-ms", "100", "--away-ms", "100", "--rate", "2000"];
    for further in [&["--devices", "2"][..], &["--fresh"]] {
        let report = report(loadtest(&gateway, &[&["sync"][..], &often, further].concat()));
        assert_nothing_lost(&report);
        assert!(report["catch_up"]["events"].as_u64() > Some(0), "{report}");
    }
    let storms = ["reconnect", "--seconds", "2", "--connections", "20", "--storms", "3"];
    let report = report(loadtest(&gateway, &storms));
    assert_nothing_lost(&report);
    assert_eq!(report["returned"], 60, "{report}");
}

/// All keys of latencies by region and way, and each of them timed.
fn latencies_apart(report: &serde_json::Value) -> Vec<&str> {
    let fields = report.as_object().expect("an object").iter();
    let apart = fields.filter(|(key, _)| key.starts_with("ack_ms_") || key.starts_with("delivery_ms_"));
    let timed = apart.map(|(key, value)| {
        for percentile in ["p50", "p99"] {
            assert!(value[percentile].as_f64() > Some(0.0), "{key} {percentile}: {report}");
        }
        key.as_str()
    });
    timed.collect()
}

#[test]
fn geo_01_latencies_across_nodes_are_told_by_region_and_way() {
    let scene = Scene::start();
    let (east, west) = (scene.edge("east"), scene.edge("west"));
    let targets = [("eu=", scene.core()), ("jp=", &east), ("eu=", &west)];
    let short = ["--seconds", "1", "--rate", "100"];
    let all = ["ack_ms_eu", "ack_ms_jp", "delivery_ms_eu_eu", "delivery_ms_eu_jp", "delivery_ms_jp_eu"];
    for scenario in [
        &["c2c", "--connections", "12"][..],
        &["group", "--groups", "2", "--members", "6"],
        &["room", "--members", "12", "--senders", "3", "--guests", "3"],
    ] {
        let report = report(loadtest_at(&targets, &[scenario, &short].concat()));
        assert_nothing_lost(&report);
        let mut apart = latencies_apart(&report);
        apart.retain(|key| *key != "delivery_ms_jp_jp"); // among many some are both there, of a pair never
        assert_eq!(apart, all, "{report}");
        assert_eq!(report.get("delivery_ms_jp_jp").is_some(), scenario[0] != "c2c", "{report}");
    }
    // One target tells nothing apart.
    let report = report(loadtest(scene.core(), &["c2c", "--connections", "4", "--seconds", "1"]));
    assert_eq!(latencies_apart(&report), [""; 0]);
}

#[test]
fn msg_04_c2c_finds_nothing_lost_across_kill_9() {
    let port = || format!("127.0.0.1:{}", free_port());
    let builder = Gateway::builder().own_app_file();
    let mut gateway = builder.flag("client-listen", port()).flag("admin-listen", port()).start();
    let run = loadtest(&gateway, &["c2c", "--reconnect", "--seconds", "6", "--connections", "8"]);
    for _ in 0..2 {
        gateway.wait_metric("gateway_messages_total", &[], 200.0);
        gateway = gateway.restart();
    }
    assert_nothing_lost(&report(run));
}
