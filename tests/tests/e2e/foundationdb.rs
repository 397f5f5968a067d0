//! A gateway on FoundationDB: serving, through outages of the cluster, and its end.
//!
//! Goal: while the cluster does not answer, clients are told to try again and stay connected; service
//! resumes by itself, with nothing lost, doubled or unseen; the process ends cleanly in every state, also
//! where the client library would crash at exit if it were still running. Two gateways on one cluster tell an
//! application's server each thing once, and follow each other's settings. Mechanics: a cluster of one process,
//! frozen, killed and started again under gateways built with the feature `fdb`, which `FDB_GATEWAY_BIN`
//! names. Skipped, with a word, where either is missing. Everything else runs on FoundationDB, too, where
//! `E2E_FDB_CLUSTER_FILE` names a cluster: see `.ci/run`.

#[path = "../../../backend/tests/fdb_cluster/server.rs"]
pub mod server;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    process::Command,
};

use protocol::{ErrorCode, message::Message};
use serde_json::{Value, json};
use server::Server;
use tests::{Builder, Client, Gateway, Process, Receiver, Refusal, eventually, program, skip, text_body, unique_id};

/// A gateway on FoundationDB, if this run has one.
pub fn gateway_program() -> Option<PathBuf> {
    let gateway = std::env::var_os("FDB_GATEWAY_BIN").map(PathBuf::from);
    if gateway.is_none() {
        skip("no FoundationDB here (FDB_GATEWAY_BIN names no gateway built with the feature fdb)");
    }
    gateway
}

/// How to start it.
fn builder(gateway: PathBuf, cluster_file: &Path) -> Builder {
    Gateway::builder().on_fdb(gateway, cluster_file)
}

/// Sends until it is stored, under one id: as clients do. Returns how often it was refused.
fn send_in_the_end(client: &mut Client, to: &str, text: &str) -> usize {
    let id = unique_id();
    let mut refused = 0;
    eventually("the send is stored", || match client.send_as(to, &id, text_body(text)) {
        Ok(_) => true,
        Err(Refusal::Failed { code, retry_after_ms }) => {
            assert!(code == ErrorCode::UNAVAILABLE || code == ErrorCode::BUSY, "{code:?}");
            assert!(retry_after_ms > 0, "clients are told when to try again");
            refused += 1;
            false
        }
        Err(closed) => panic!("connections stay up: {closed:?}"),
    });
    refused
}

/// Everything that comes, in order, by push and, where pushes were dropped, from the log.
fn receive(client: &mut Client, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        match client.next_push().expect("the connection stays up") {
            Some(message) => messages.push(message),
            None => messages.extend(client.catch_up()),
        }
    }
    messages
}

#[test]
fn serves_through_outages_of_the_cluster_and_ends_cleanly() {
    let Some(gateway) = gateway_program() else { return };
    let Some(mut cluster) = Server::start() else { return };
    let gateway = builder(gateway, &cluster.file()).start();
    assert!(gateway.ready_line().contains("store fdb at "), "{}", gateway.ready_line());
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    let mut texts: Vec<String> = Vec::new();
    let mut send = |anna: &mut Client, text: String| {
        let refused = send_in_the_end(anna, "ben", &text);
        texts.push(text);
        refused
    };
    for n in 0..10 {
        send(&mut anna, format!("before {n}"));
    }

    // Frozen: its connections stand and nothing is answered.
    cluster.freeze();
    let lost = anna.send_as("ben", &unique_id(), text_body("may be stored or not"));
    assert!(matches!(lost, Err(Refusal::Failed { code: ErrorCode::UNAVAILABLE, .. })), "{lost:?}");
    assert!(matches!(ben.history("anna", 0, true, 0), Err(Refusal::Failed { code: ErrorCode::UNAVAILABLE, .. })));
    anna.ping();
    cluster.thaw();
    for n in 0..10 {
        send(&mut anna, format!("after the freeze {n}"));
    }

    // Killed, and back with its data, while sends go on.
    cluster.restart();
    for n in 0..10 {
        send(&mut anna, format!("after the kill {n}"));
    }

    let stored = ben.conversation("anna");
    let seqs: Vec<u64> = stored.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (1..=stored.len() as u64).collect::<Vec<_>>(), "without holes");
    let acknowledged: Vec<_> = stored.iter().map(text).filter(|text| text != "may be stored or not").collect();
    assert_eq!(acknowledged, texts, "each once, in order");
    assert_eq!(receive(&mut ben, stored.len()), stored, "and all of it pushed");

    let mut restarted = gateway.stop_well().start();
    assert_eq!(restarted.login("ben").conversation("anna"), stored);
    // With a cluster that does not answer, too.
    cluster.freeze();
    restarted = restarted.stop_well_then(|| cluster.thaw()).start();
    restarted.stop_well();
}

fn text(message: &Message) -> String {
    tests::MessageExt::text(message)
}

/// Ends a gateway, which must go well.
trait StopWell {
    fn stop_well(self) -> Builder;
    fn stop_well_then(self, then: impl FnOnce()) -> Builder;
}

impl StopWell for Gateway {
    fn stop_well(self) -> Builder {
        self.stop_well_then(|| ())
    }

    fn stop_well_then(self, then: impl FnOnce()) -> Builder {
        let (status, output, builder) = self.stop();
        assert_eq!(status.code(), Some(0), "{status}: {output}");
        then();
        builder
    }
}

#[test]
fn load_is_carried_without_a_loss_while_the_cluster_is_killed() {
    let Some(gateway) = gateway_program() else { return };
    let Some(mut cluster) = Server::start() else { return };
    let gateway = builder(gateway, &cluster.file()).start();
    let mut command = Command::new(program("loadtest"));
    command.args(["c2c", "--reconnect", "--seconds", "6", "--connections", "8", "--report", "json"]);
    command.arg("--target").arg(gateway.address().to_string());
    command.arg("--app-file").arg(gateway.data().join("dev/app.json"));
    command.arg("--ca").arg(gateway.data().join("dev/cert.pem"));
    let mut run = Process::start(command);
    gateway.wait_metric("gateway_messages_total", &[], 200.0);
    cluster.restart();
    let line = run.line().unwrap_or_default();
    assert_eq!(run.wait().code(), Some(0), "{}", run.output());
    let report: serde_json::Value = serde_json::from_str(&line).expect("a report");
    for broken in ["lost", "duplicated", "reordered"] {
        assert_eq!(report[broken], 0, "{broken}: {report}");
    }
    assert!(report["acked"].as_u64() > Some(0), "{report}");
    gateway.stop_well();
}

/// It fails after the store was opened, so this is also about the client library's end.
#[test]
fn a_start_without_its_cluster_says_so_and_ends() {
    let Some(gateway) = gateway_program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("fdb.cluster");
    std::fs::write(&file, "nobody:nobody@127.0.0.1:1\n").expect("writes");
    let builder = builder(gateway, &file);
    let output = builder.fails();
    assert!(output.contains("the FoundationDB cluster does not answer"), "{output}");
    assert!(output.contains("fdb.cluster"), "names the cluster file: {output}");

    let missing = folder.path().join("missing.cluster");
    let output = builder.flag("fdb-cluster-file", missing.display()).fails();
    assert!(output.contains("missing.cluster"), "{output}");
}

/// Two gateways on one cluster, with settings of their application.
fn two_gateways(cluster: &Server, program: PathBuf, settings: &Value) -> [Gateway; 2] {
    let first = builder(program, &cluster.file()).more_settings(settings).start();
    let second = first.built_from().another().start();
    [first, second]
}

/// A message that the application's server was told of: its recipient, its sequence, and the id it came under.
fn told(receiver: &Receiver) -> (String, u64, String) {
    let told = receiver.next();
    let to = told.body["To_Account"].as_str().expect("a name").to_owned();
    (to, told.body["MsgSeq"].as_u64().expect("a number"), told.id.expect("an id"))
}

#[test]
fn con_06_of_two_gateways_one_tells_each_thing_and_the_other_takes_over() {
    let Some(program) = gateway_program() else { return };
    let Some(cluster) = Server::start() else { return };
    let receiver = Receiver::start();
    let [first, second] = two_gateways(&cluster, program, &receiver.settings(&["C2C.CallbackAfterSendMsg"]));
    let peers: Vec<String> = (0..8).map(|peer| format!("peer-{peer}")).collect();
    peers.iter().for_each(|peer| _ = first.login(peer));
    let (mut anna, mut ben) = (first.login("anna"), second.login("ben"));
    let mut ids = HashSet::new();
    // Anna writes to half of them through one, ben to the others through the other.
    for number in 0..80 {
        let sender = if number % 2 == 0 { &mut anna } else { &mut ben };
        sender.send(&peers[number % peers.len()], "hello");
    }
    let mut last: HashMap<String, u64> = HashMap::new();
    for _ in 0..80 {
        let (to, seq, id) = told(&receiver);
        assert_eq!(last.insert(to.clone(), seq).unwrap_or(0) + 1, seq, "in order, to {to}");
        assert!(ids.insert(id), "once, while both live: {to}, {seq}");
    }
    // One dies with the lanes that it has; the other has them once its claims are over.
    first.kill();
    peers.iter().for_each(|peer| _ = ben.send(peer, "one more"));
    let mut missing: HashSet<&String> = peers.iter().collect();
    while !missing.is_empty() {
        let (to, _, id) = told(&receiver);
        // Those of the dead one that it had not removed come once more, under the ids that they had.
        if ids.insert(id) {
            missing.remove(&to);
        }
    }
    second.stop_well();
}

#[test]
fn con_02_what_one_gateway_is_told_of_settings_holds_on_both() {
    let Some(program) = gateway_program() else { return };
    let Some(cluster) = Server::start() else { return };
    let gateways = two_gateways(&cluster, program, &json!({}));
    let set = |settings: &str| _ = gateways[0].app_command(&["set", "1400000001", settings]).expect("set");
    let mut clients = [gateways[0].login("anna"), gateways[1].login("ben")];
    let send = |client: &mut Client| client.send_as("anna", &unique_id(), text_body("hello"));
    clients.iter_mut().for_each(|client| _ = send(client).expect("sent"));
    // What is read in transactions holds at once, everywhere.
    set("message_bytes_max=1");
    for client in &mut clients {
        assert!(send(client).is_err());
    }
    set("message_bytes_max=null");
    // What each gateway keeps a copy of follows.
    set("sends_per_second=1");
    for client in &mut clients {
        eventually("the rate is limited", || (0..30).any(|_| send(client).is_err()));
    }
    // Sessions on both end with their application.
    gateways[1].app_command(&["create", "77"]).expect("created");
    let app = tests::App::of(&gateways[0].app_command(&["show", "77", "--secret"]).expect("shown"));
    let mut clients = gateways.each_ref().map(|gateway| {
        let mut logged_in = None;
        eventually("the application is known", || {
            let mut client = gateway.connect_to(&app, "anna");
            logged_in = client.try_login().is_ok().then_some(client);
            logged_in.is_some()
        });
        logged_in.expect("it is")
    });
    gateways[0].app_command(&["delete", "77", "--with-all-data"]).expect("deleted");
    for client in &mut clients {
        assert_eq!(client.closed(), Some((ErrorCode::APPLICATION_UNKNOWN, 0)));
    }
}
