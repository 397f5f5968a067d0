//! Several cores on one FoundationDB cluster (GEO-01).
//!
//! Goal: users of different nodes are together as on one: messages, groups, live rooms, presence, devices that exclude
//! each other; and nothing is lost, doubled or out of order when a node is killed, stands still, is cut off, or all are
//! restarted one by one. Mechanics: three gateways of the feature `fdb`, linked through relays that can be cut. Skipped,
//! with a word, where there is no FoundationDB.

use std::{net::SocketAddr, process::Command, thread};

use protocol::{
    command::Command as Asked,
    message::{GroupType, Locate, LocateReply, Message, OnlineState, Platform, group_push, group_tips::Kind},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tempfile::TempDir;
use tests::{
    Builder, Client, Gateway, MessageExt as _, Options, Process, Relay, Seed, eventually, free_port, node_certificates,
    program, text_body, unique_id,
};

use crate::{
    edges::wait_linked,
    foundationdb::{gateway_program, server::Server},
};

const NAMES: [&str; 3] = ["one", "two", "three"];
const REGIONS: [&str; 3] = ["germany", "japan", "singapore"];

/// Cores of one deployment, each of which is reached by the others through a relay.
struct Cores {
    // Dropped before the cluster that they use.
    nodes: Vec<Option<Gateway>>,
    relays: Vec<Relay>,
    /// Where each takes links of edges.
    links: [SocketAddr; 3],
    certificates: TempDir,
    cluster: Server,
}

impl Cores {
    /// Three that are linked. `None`: there is no FoundationDB here.
    fn start(lease_ms: u32) -> Option<Cores> {
        let program = gateway_program()?;
        let cluster = Server::start()?;
        let (certificates, relays) = (node_certificates(&NAMES, &["edge"]), NAMES.map(|_| Relay::start()).into());
        let links = NAMES.map(|_| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let mut cores = Cores { nodes: Vec::new(), relays, links, certificates, cluster };
        let first = Gateway::builder().on_fdb(program, &cores.cluster.file()).more_settings(&json!({}));
        let first = cores.start_node(0, first, lease_ms);
        let others: Vec<Builder> = (1..NAMES.len()).map(|_| first.built_from().another()).collect();
        cores.nodes.push(Some(first));
        for (index, other) in others.into_iter().enumerate() {
            let other = cores.start_node(index + 1, other, lease_ms);
            cores.nodes.push(Some(other));
        }
        cores.wait_linked();
        Some(cores)
    }

    fn start_node(&self, index: usize, builder: Builder, lease_ms: u32) -> Gateway {
        let (relay, listen) = (&self.relays[index], format!("127.0.0.1:{}", free_port()));
        relay.to(listen.parse().expect("an address"));
        builder
            .node(self.certificates.path(), NAMES[index])
            .flag("link-peers-listen", listen)
            .flag("link-peers-advertise", relay.address())
            .flag("link-listen", self.links[index])
            .flag("node-lease-ms", lease_ms)
            .flag("node-region", REGIONS[index])
            .start()
    }

    /// An edge that is told of one of them.
    fn start_edge(&self, of: usize) -> Gateway {
        let edge = self.node(of).built_from().another().node(self.certificates.path(), "edge").edge(self.links[of]);
        let edge = edge.start();
        wait_linked(&edge);
        edge
    }

    /// Those with which an edge is linked.
    fn with_edges(&self) -> Vec<usize> {
        let has_some = |node: &Gateway| node.metrics().sum("gateway_edge_links", &[]) > 0.0;
        (0..NAMES.len()).filter(|&index| self.nodes[index].as_ref().is_some_and(has_some)).collect()
    }

    fn node(&self, index: usize) -> &Gateway {
        self.nodes[index].as_ref().expect("it runs")
    }

    fn take(&mut self, index: usize) -> Gateway {
        self.nodes[index].take().expect("it runs")
    }

    fn running(&self) -> Vec<&Gateway> {
        self.nodes.iter().flatten().collect()
    }

    /// Each is linked with all others, and sure of the order of what it tells.
    fn wait_linked(&self) {
        let others = self.running().len() - 1;
        for node in self.running() {
            let is = |name, value: usize| node.metrics().sum(name, &[]) == value as f64;
            eventually("all are linked", || is("gateway_peer_links", others) && is("gateway_order_doubtful", 0));
        }
    }
}

/// The next messages, by push and, where something may have been missed, from the log.
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

fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.text()).collect()
}

#[test]
fn geo_01_users_of_different_cores_write_to_each_other() {
    let Some(cores) = Cores::start(5_000) else { return };
    let [mut anna, mut ben, mut cleo] =
        [("anna", 0), ("ben", 1), ("cleo", 2)].map(|(user, at)| cores.node(at).login(user));
    let mut anna_too = cores.node(2).login("anna");
    // All at once into one conversation: each device sees all of it in order.
    for number in 0..30 {
        anna.send("ben", &format!("phone {number}"));
        ben.send("anna", &format!("ben {number}"));
        anna_too.send("ben", &format!("tablet {number}"));
    }
    let all = anna.conversation("ben");
    assert_eq!(all.len(), 90);
    let without = |device: &str| -> Vec<String> {
        all.iter().map(|message| message.text()).filter(|text| !text.starts_with(device)).collect()
    };
    for (client, device) in [(&mut ben, "ben"), (&mut anna, "phone"), (&mut anna_too, "tablet")] {
        assert_eq!(texts(&receive(client, 60)), without(device));
    }
    // A group, with members on all of them.
    let group = anna.create_group(GroupType::Work, &["ben", "cleo"]);
    anna.send_to_group(&group, "hello all").expect("sent");
    cleo.next_event();
    eventually("cleo has it", || {
        let push = cleo.next_event();
        matches!(push, protocol::message::event::What::Message(message) if message.text() == "hello all")
    });
    ben.send_to_group(&group, "hello from ben").expect("sent");
    assert_eq!(texts(&receive(&mut cleo, 1)), ["hello from ben"]);
}

#[test]
fn geo_01_cores_without_links_lose_nothing() {
    let Some(program) = gateway_program() else { return };
    let Some(cluster) = Server::start() else { return };
    let first = Gateway::builder().on_fdb(program, &cluster.file()).more_settings(&json!({})).start();
    let second = first.built_from().another().start();
    let (mut anna, mut cleo, mut ben) = (first.login("anna"), second.login("cleo"), second.login("ben"));
    for number in 0..5 {
        anna.send("ben", &format!("unheard {number}"));
        // It is told where he is, and stands behind what is not.
        cleo.send("ben", &format!("heard {number}"));
    }
    let expected: Vec<String> =
        (0..5).flat_map(|number| [format!("unheard {number}"), format!("heard {number}")]).collect();
    assert_eq!(texts(&receive(&mut ben, 10)), expected);
}

#[test]
fn geo_01_acc_04_presence_and_devices_are_those_of_all_cores() {
    let Some(cores) = Cores::start(5_000) else { return };
    let mut ben = cores.node(1).login("ben");
    ben.follow(&["anna"]).expect("followed");
    let mut anna = cores.node(0).login("anna");
    assert_eq!(ben.next_presence().state(), OnlineState::Online);
    let mut anna_too = cores.node(2).login("anna");
    eventually("both devices are seen", || anna.devices().len() == 2);
    anna.set_status("at sea").expect("set");
    eventually("the status is seen", || ben.presence_of("anna").status == "at sea");
    // A device is signed out by another one, elsewhere.
    let elsewhere = anna_too.session();
    assert_eq!(anna.sign_out(&[elsewhere], false), Ok(1));
    anna_too.signed_out();
    eventually("one is left", || anna.devices().len() == 1);
    // All, from the server API of a third.
    let answer = cores.node(2).api().call("im_open_login_svc/kick", &json!({ "UserID": "anna" }));
    assert_eq!(answer["ErrorCode"], 0, "{answer}");
    anna.signed_out();
    eventually("she is seen to be gone", || ben.presence_of("anna").state() == OnlineState::Offline);
}

#[test]
fn geo_01_login_02_devices_exclude_each_other_wherever_they_log_in() {
    let Some(cores) = Cores::start(5_000) else { return };
    cores.node(0).app_command(&["set", "1400000001", "login_policy=dual", "instances=null"]).expect("set");
    let log_in = |at: usize, platform: Platform, device: &str| {
        let options = Options { platform, device: device.to_owned(), ..Options::default() };
        let mut client = cores.node(at).connect_with("anna", options);
        client.log_in_and_sync();
        client
    };
    let seed = Seed::for_test("login_02_devices_exclude_each_other_wherever_they_log_in");
    let mut rng = StdRng::seed_from_u64(*seed);
    // Wherever they come in, the last one stays.
    let mut last = log_in(0, Platform::Android, "phone 0");
    for number in 1..12 {
        let at = rng.random_range(0..3);
        let next = log_in(at, Platform::Android, &format!("phone {number}"));
        last.signed_out();
        last = next;
    }
    let mut web = log_in(1, Platform::Web, "browser");
    eventually("two are left", || web.devices().len() == 2);
    // Two at once: one stays, and all nodes agree which.
    let mut both = [log_in(0, Platform::Android, "left"), log_in(2, Platform::Android, "right")];
    eventually("two are left", || web.devices().len() == 2);
    let stays = web.devices().into_iter().find(|device| device.platform() == Platform::Android).expect("one").device;
    let gone = both.iter_mut().zip(["left", "right"]).find(|(_, name)| *name != stays).expect("the other").0;
    gone.signed_out();
}

#[test]
fn geo_01_grp_16_a_live_room_is_one_room_on_all_cores() {
    let Some(cores) = Cores::start(5_000) else { return };
    let mut host = cores.node(0).login("host");
    let room = host.create_group(GroupType::Avchatroom, &[]);
    host.join_group(&room).expect("in");
    let mut visitors: Vec<Client> = (1..3).map(|at| cores.node(at).login(&format!("visitor {at}"))).collect();
    for visitor in &mut visitors {
        visitor.join_group(&room).expect("in");
    }
    let mut come = Vec::new();
    while come.len() < 3 {
        if let group_push::What::Tips(tips) = host.next_group_push() {
            assert_eq!(tips.kind(), Kind::Joined);
            come.extend(tips.users);
        }
    }
    come.sort();
    assert_eq!(come, ["host", "visitor 1", "visitor 2"]);
    for number in 0..20 {
        visitors[number % 2].send_to_group(&room, &format!("hello {number}")).expect("sent");
        assert_eq!(host.next_room_message().text(), format!("hello {number}"));
    }
    eventually("all are counted", || host.group_online(&room) == Ok((3, 0)));
    // A newcomer elsewhere has the last ones.
    let mut late = cores.node(2).login("late");
    let recent = late.join_group(&room).expect("in").recent;
    assert_eq!(recent.len(), 20);
    host.leave_group(&room).expect("out");
    eventually("one fewer", || late.group_online(&room) == Ok((3, 0)));
}

#[test]
fn geo_01_grp_17_a_core_that_has_just_started_has_the_last_messages_of_live_rooms_from_others() {
    let Some(mut cores) = Cores::start(2_000) else { return };
    let mut host = cores.node(0).login("host");
    let rooms: Vec<String> = (0..3).map(|_| host.create_group(GroupType::Avchatroom, &[])).collect();
    rooms.iter().for_each(|room| _ = host.join_group(room).expect("in"));
    let mut say = |room: &str, numbers: std::ops::Range<u64>| {
        numbers.for_each(|number| _ = host.send_to_group(room, &number.to_string()).expect("sent"));
    };
    let seqs = |messages: &[Message]| messages.iter().map(|message| message.seq).collect::<Vec<_>>();
    say(&rooms[0], 0..30);
    say(&rooms[1], 0..3);
    let (_, _, builder) = cores.take(2).stop();
    say(&rooms[0], 30..40);
    let restarted = cores.start_node(2, builder, 2_000);
    cores.nodes[2] = Some(restarted);
    cores.wait_linked();
    // It has heard some of one room before anybody asks for the rest, and nothing of another.
    say(&rooms[0], 40..45);
    let mut late = cores.node(2).login("late");
    eventually("all is there, each once and in order", || {
        late.leave_group(&rooms[0]).ok();
        seqs(&late.join_group(&rooms[0]).expect("in").recent) == (26..=45).collect::<Vec<_>>()
    });
    assert_eq!(seqs(&late.join_group(&rooms[1]).expect("in").recent), [1, 2, 3]);
    assert!(late.join_group(&rooms[2]).expect("in").recent.is_empty(), "nothing was said there");
    // Who does not answer, or is not there, keeps nobody out.
    cores.relays.iter().for_each(Relay::silence);
    say(&rooms[2], 0..1);
    assert!(late.join_group(&rooms[2]).expect("in").recent.is_empty(), "nobody has heard the question");
    cores.relays.iter().for_each(Relay::mend);
    eventually("others are asked again over another link", || {
        late.leave_group(&rooms[2]).ok();
        seqs(&late.join_group(&rooms[2]).expect("in").recent) == [1]
    });
    cores.take(0).kill();
    cores.take(1).kill();
    let alone = cores.take(2).restart();
    let mut last = alone.login("last");
    assert!(last.join_group(&rooms[0]).expect("in").recent.is_empty());
}

#[test]
fn geo_01_a_killed_core_is_noticed_by_its_lease_and_nothing_is_lost() {
    let Some(mut cores) = Cores::start(2_000) else { return };
    let (mut anna, mut ben) = (cores.node(0).login("anna"), cores.node(1).login("ben"));
    let mut cleo = cores.node(2).login("cleo");
    cleo.send("ben", "one");
    assert_eq!(texts(&receive(&mut ben, 1)), ["one"]);
    eventually("she is seen", || anna.presence_of("cleo").state() == OnlineState::Online);
    let builder = cores.take(2).kill();
    // It may come back to its link until its lease is over: until then its users are there.
    assert_eq!(anna.presence_of("cleo").state(), OnlineState::Online);
    let mut sent = Vec::new();
    eventually("its users are gone with its lease", || {
        let text = format!("meanwhile {}", sent.len());
        anna.send("ben", &text);
        sent.push(text);
        anna.presence_of("cleo").state() == OnlineState::Offline
    });
    assert_eq!(texts(&receive(&mut ben, sent.len())), sent, "told all the same, in order");
    cores.wait_linked();
    // It comes back as another one; who was there has not come back with it.
    let back = cores.start_node(2, builder, 2_000);
    cores.nodes[2] = Some(back);
    cores.wait_linked();
    assert_eq!(anna.presence_of("cleo").state(), OnlineState::Offline);
    let mut cleo = cores.node(2).login("cleo");
    eventually("she is seen", || anna.presence_of("cleo").state() == OnlineState::Online);
    anna.send("cleo", "welcome back");
    assert_eq!(texts(&receive(&mut cleo, 1)), ["welcome back"]);
}

#[test]
fn geo_01_over_a_cut_link_nothing_is_lost_and_both_sides_go_on() {
    let Some(cores) = Cores::start(60_000) else { return };
    let (mut anna, mut ben) = (cores.node(0).login("anna"), cores.node(1).login("ben"));
    anna.send("ben", "before");
    assert_eq!(texts(&receive(&mut ben, 1)), ["before"]);
    cores.relays.iter().for_each(Relay::cut);
    eventually("it is noticed", || cores.node(1).metrics().sum("gateway_peer_links", &[]) == 0.0);
    let sent: Vec<String> = (0..10).map(|number| format!("meanwhile {number}")).collect();
    sent.iter().for_each(|text| _ = anna.send("ben", text));
    // Nobody tells ben's node of it; he is sent to his log before long.
    assert_eq!(texts(&receive(&mut ben, 10)), sent);
    cores.relays.iter().for_each(Relay::mend);
    cores.wait_linked();
    anna.send("ben", "after");
    assert_eq!(texts(&receive(&mut ben, 1)), ["after"]);
    // Silent rather than cut: nobody is told that nothing arrives.
    cores.relays.iter().for_each(Relay::silence);
    anna.send("ben", "into silence");
    assert_eq!(texts(&receive(&mut ben, 1)), ["into silence"]);
    cores.relays.iter().for_each(Relay::mend);
    cores.wait_linked();
}

#[test]
fn geo_01_acc_02_login_05_who_is_signed_out_over_a_cut_link_does_not_stay() {
    let Some(cores) = Cores::start(60_000) else { return };
    let (mut anna, mut anna_too, mut ben) =
        (cores.node(0).login("anna"), cores.node(2).login("anna"), cores.node(2).login("ben"));
    eventually("both devices are seen", || anna.devices().len() == 2);
    cores.relays.iter().for_each(Relay::cut);
    eventually("it is noticed", || cores.node(0).metrics().sum("gateway_peer_links", &[]) == 0.0);
    assert_eq!(anna.sign_out(&[anna_too.session()], false), Ok(1));
    let answer = cores.node(0).api().call("im_open_login_svc/kick", &json!({ "UserID": "ben" }));
    assert_eq!(answer["ErrorCode"], 0, "{answer}");
    // His own node finds out by the store, her own once it is told again.
    ben.signed_out();
    cores.relays.iter().for_each(Relay::mend);
    anna_too.signed_out();
    eventually("one is left", || anna.devices().len() == 1);
}

#[test]
fn geo_01_acc_04_nobody_is_gone_because_a_link_was() {
    let Some(cores) = Cores::start(5_000) else { return };
    // Whichever threads of the node they belong to.
    let names: Vec<String> = (0..8).map(|number| format!("follower {number}")).collect();
    let mut followers: Vec<Client> = names.iter().map(|name| cores.node(0).login(name)).collect();
    let mut stays = cores.node(1).login("anna");
    let room = stays.create_group(GroupType::Avchatroom, &[]);
    stays.join_group(&room).expect("in");
    let gone: Vec<String> = (0..4).map(|number| format!("cleo {number}")).collect();
    let leaving: Vec<Client> = gone.iter().map(|name| cores.node(2).login(name)).collect();
    for follower in &mut followers {
        follower.follow(&["anna"]).expect("followed");
        for name in &gone {
            follower.follow(&[name]).expect("followed");
            eventually("she is seen", || follower.presence_of(name).state() == OnlineState::Online);
        }
        eventually("she is seen", || follower.presence_of("anna").state() == OnlineState::Online);
    }
    eventually("she is counted", || followers[0].group_online(&room) == Ok((1, 0)));
    cores.relays.iter().for_each(Relay::cut);
    for node in cores.running() {
        eventually("it is noticed", || node.metrics().sum("gateway_peer_links", &[]) == 0.0);
    }
    drop(leaving);
    eventually("they are out", || cores.node(2).metrics().sum("gateway_sessions", &[]) == 0.0);
    assert_eq!(followers[0].group_online(&room), Ok((1, 0)), "a link says nothing by its end");
    cores.relays.iter().for_each(Relay::mend);
    for follower in &mut followers {
        let mut told_gone = Vec::new();
        while told_gone.len() < gone.len() {
            let presence = follower.next_presence();
            if presence.state() == OnlineState::Offline {
                told_gone.push(presence.user);
            }
        }
        told_gone.sort();
        assert_eq!(told_gone, gone);
    }
    assert_eq!(followers[0].presence_of("anna").state(), OnlineState::Online);
    assert_eq!(followers[0].group_online(&room), Ok((1, 0)));
}

#[test]
fn geo_01_a_core_that_stood_still_is_taken_for_dead_and_ends() {
    let Some(mut cores) = Cores::start(1_000) else { return };
    let (mut anna, _cleo) = (cores.node(0).login("anna"), cores.node(2).login("cleo"));
    eventually("she is seen", || anna.presence_of("cleo").state() == OnlineState::Online);
    let frozen = cores.take(2);
    frozen.freeze();
    eventually("its users are gone with its lease", || anna.presence_of("cleo").state() == OnlineState::Offline);
    frozen.thaw();
    let (status, output, _) = frozen.ended();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("taken for dead"), "{output}");
}

#[test]
fn geo_01_all_cores_are_restarted_one_by_one_and_nothing_is_lost() {
    let Some(mut cores) = Cores::start(5_000) else { return };
    cores.node(1).login("ben");
    let mut sent = 0_u64;
    for index in 0..3 {
        let (status, output, builder) = cores.take(index).stop();
        assert_eq!(status.code(), Some(0), "{output}");
        // Those who were there log in elsewhere, and are told all that is said on the other nodes.
        let (mut anna, mut ben) = (cores.node((index + 1) % 3).login("anna"), cores.node((index + 2) % 3).login("ben"));
        for number in sent..sent + 5 {
            anna.send("ben", &format!("message {number}"));
            assert_eq!(texts(&receive(&mut ben, 1)), [format!("message {number}")]);
        }
        assert_eq!(cores.node((index + 1) % 3).metrics().sum("gateway_order_doubtful", &[]), 0.0, "it said goodbye");
        let back = cores.start_node(index, builder, 5_000);
        cores.nodes[index] = Some(back);
        cores.wait_linked();
        let mut anna = cores.node(index).login("anna");
        anna.send("ben", &format!("message {}", sent + 5));
        assert_eq!(texts(&receive(&mut ben, 1)), [format!("message {}", sent + 5)]);
        sent += 6;
    }
    let all = cores.node(0).login("ben").conversation("anna");
    assert_eq!(texts(&all), (0..sent).map(|number| format!("message {number}")).collect::<Vec<_>>());
    assert!(all.iter().map(|message| message.seq).eq(1..=sent));
}

/// Sends over the edge what was not acknowledged, over connection after connection, until all of it is.
fn send_all(edge: &Gateway, texts: &[String]) {
    let mut unsent = texts.iter().map(|text| (unique_id(), text)).peekable();
    eventually("all are acknowledged", || {
        let mut anna = edge.connect("anna");
        if anna.try_login().is_err() {
            return false;
        }
        while let Some((id, text)) = unsent.peek() {
            if anna.send_as("ben", id, text_body(text)).is_err() {
                return false;
            }
            unsent.next();
        }
        true
    });
}

#[test]
fn geo_01_an_edge_goes_on_to_another_core_when_its_own_is_killed_or_ends() {
    let Some(mut cores) = Cores::start(2_000) else { return };
    let edge = cores.start_edge(0);
    assert_eq!(cores.with_edges(), [0]);
    edge.login("ben");
    let sent: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    for (round, texts) in sent.chunks(200).enumerate() {
        let [own] = cores.with_edges()[..] else { panic!("one has it") };
        let back = thread::scope(|scope| {
            let before = cores.node(own).metrics().sum("gateway_messages_total", &[]);
            let sending = scope.spawn(|| send_all(&edge, texts));
            cores.node(own).wait_metric("gateway_messages_total", &[], before + 20.0);
            let gone = cores.nodes[own].take().expect("it runs");
            let back = if round == 1 { gone.stop().2 } else { gone.kill() };
            sending.join().expect("no panic inside");
            back
        });
        // It has heard of the others.
        wait_linked(&edge);
        assert_ne!(cores.with_edges(), [own]);
        cores.nodes[own] = Some(cores.start_node(own, back, 2_000));
        cores.wait_linked();
    }
    let mut ben = edge.login("ben");
    assert_eq!(texts(&ben.conversation("anna")), sent, "each once, in order");
}

/// Pairs of users on different cores.
const PAIRS: [&str; 3] = ["c2c", "--connections=12", "--rate=300"];

/// Groups that have members on all cores.
const GROUPS: [&str; 4] = ["group", "--groups=4", "--members=6", "--rate=60"];

/// Users who come back at another core when theirs is gone.
fn start_load(cores: &Cores, who: &[&str], seconds: u32) -> Process {
    let joined = |each: fn(&Gateway) -> String| cores.running().into_iter().map(each).collect::<Vec<_>>().join(",");
    let mut command = Command::new(program("loadtest"));
    command.args(who).args(["--reconnect", "--report", "json", "--seconds", &seconds.to_string()]);
    command.arg("--target").arg(joined(|node| node.address().to_string()));
    command.arg("--ca").arg(joined(|node| node.data().join("dev/cert.pem").display().to_string()));
    command.arg("--app-file").arg(cores.node(0).data().join("dev/app.json"));
    Process::start(command)
}

/// Waits until so many more messages have been acknowledged by a core.
fn wait_for_more(node: &Gateway, more: f64) {
    let before = node.metrics().sum("gateway_messages_total", &[]);
    node.wait_metric("gateway_messages_total", &[], before + more);
}

fn check_promises(mut load: Process) {
    let line = load.line().unwrap_or_default();
    assert_eq!(load.wait().code(), Some(0), "{}", load.output());
    let report: serde_json::Value = serde_json::from_str(&line).expect("a report");
    for broken in ["lost", "duplicated", "reordered"] {
        assert_eq!(report[broken], 0, "{broken}: {report}");
    }
    assert!(report["acked"].as_u64() > Some(100), "{report}");
}

#[test]
fn geo_01_load_on_three_cores_is_carried_while_one_is_killed_links_are_cut_and_the_store_stands_still() {
    let Some(mut cores) = Cores::start(5_000) else { return };
    let load = [start_load(&cores, &PAIRS, 40), start_load(&cores, &GROUPS, 40)];
    wait_for_more(cores.node(2), 50.0);
    let builder = cores.take(2).kill();
    wait_for_more(cores.node(0), 100.0);
    let back = cores.start_node(2, builder, 5_000);
    cores.nodes[2] = Some(back);
    cores.wait_linked();
    cores.relays.iter().for_each(Relay::cut);
    wait_for_more(cores.node(1), 100.0);
    cores.relays.iter().for_each(Relay::mend);
    cores.wait_linked();
    // For a while in which nobody can say that it lives: nobody is dead for that.
    cores.cluster.freeze();
    for node in cores.running() {
        eventually("the store is gone", || node.metrics().sum("store_fdb_reachable", &[]) == 0.0);
    }
    cores.cluster.thaw();
    wait_for_more(cores.node(1), 50.0);
    load.into_iter().for_each(check_promises);
}

#[test]
fn geo_01_load_is_carried_while_all_cores_are_restarted_one_by_one() {
    let Some(mut cores) = Cores::start(5_000) else { return };
    for index in 0..3 {
        // One for each: however long a restart takes, there is load when it begins.
        let load = [start_load(&cores, &PAIRS, 10), start_load(&cores, &GROUPS, 10)];
        wait_for_more(cores.node(index), 20.0);
        let address = cores.node(index).address();
        let (status, output, builder) = cores.take(index).stop();
        assert_eq!(status.code(), Some(0), "{output}");
        let back = cores.start_node(index, builder.flag("client-listen", address), 5_000);
        cores.nodes[index] = Some(back);
        cores.wait_linked();
        load.into_iter().for_each(check_promises);
    }
}

#[test]
fn geo_01_a_core_that_ends_sends_its_clients_to_the_others() {
    let Some(mut cores) = Cores::start(5_000) else { return };
    let mut anna = cores.node(1).login("anna");
    eventually("all are access points", || {
        // It may be asked too often.
        let reply = anna.call::<LocateReply>(Asked::Locate, &Locate::default());
        reply.is_ok_and(|reply| reply.access_points.len() == NAMES.len())
    });
    let (status, output, _) = cores.take(1).stop();
    assert_eq!(status.code(), Some(0), "{output}");
    let mut elsewhere = anna.sent_elsewhere();
    elsewhere.sort_unstable();
    assert_eq!(elsewhere, ["one", "three"]);
}
