//! A core and edges in regions far apart (GEO-01, GEO-02).
//!
//! Goal: clients that log in at the edge of their own region are together with those of others over 80 ms and a network
//! that loses packets; and where a region is cut off, so that packets vanish and nobody is told, both sides notice, the
//! rest goes on, and everybody comes back and has lost nothing. Mechanics: network namespaces with a router between them
//! that delays and drops packets, so that TCP meets what it meets out there: retransmissions, time-outs, connections that
//! one side still believes in. Skipped, with a word, where no namespaces are to be had.
//!
//! `edges.rs` has the same with all on one loopback and more of it. There a relay makes links slow or silent, but what it
//! has been given arrives, and either side is told of an end.

use std::{collections::VecDeque, net::SocketAddr, thread};

use protocol::{
    ErrorCode,
    message::{OnlineState, SendReply},
};
use tempfile::TempDir;
use tests::{
    Builder, Client, Gateway, MessageExt as _, Refusal, Regions, Way, alone, eventually, has_no_embedded_store,
    node_certificates, text_body, unique_id,
};

use crate::edges::{receive, told, wait_linked};

/// 80 ms to the core and back.
const FAR: Way = Way { delay_ms: 40, lost_per_mille: 20 };
const LINK_PORT: u16 = 7005;
const IN_FLIGHT: usize = 8;

/// A core in a region, and edges in two others.
struct Scene {
    core: Gateway,
    east: Gateway,
    west: Gateway,
    regions: Regions,
    _certificates: TempDir,
}

impl Scene {
    fn start() -> Scene {
        let regions = Regions::start(&["core", "east", "west"]);
        let certificates = node_certificates(&["core"], &["east", "west"]);
        let listen = SocketAddr::new(regions.at("core").address(), LINK_PORT);
        let located = |node: Builder, place: &str| node.flag("node-region", place).flag("geo-locates-per-second", 0);
        let core = Gateway::builder().node(certificates.path(), "core").flag("link-listen", listen);
        let core = regions.at("core").within(|| located(core, "germany").start());
        let start_edge = |name: &str, place: &str| {
            regions.set_way("core", name, FAR);
            let edge = core.built_from().another().node(certificates.path(), name).edge(listen);
            regions.at(name).within(|| located(edge, place).start())
        };
        let (east, west) = (start_edge("east", "japan"), start_edge("west", "usa"));
        let scene = Scene { core, east, west, regions, _certificates: certificates };
        scene.wait_linked();
        scene
    }

    fn wait_linked(&self) {
        for (name, edge) in [("east", &self.east), ("west", &self.west)] {
            self.regions.at(name).within(|| wait_linked(edge));
        }
    }

    /// A device of `user` in a region, logged in at the node there.
    fn login(&self, region: &str, user: &str) -> Client {
        let node = match region {
            "east" => &self.east,
            "west" => &self.west,
            _ => &self.core,
        };
        self.regions.at(region).within(|| node.login(user))
    }
}

/// One that sends, always with some on their way.
struct Talker {
    client: Client,
    to: &'static str,
    /// The id of each message, whose text is its number here.
    sent: Vec<[u8; 16]>,
    acknowledged: usize,
    requests: VecDeque<u32>,
}

impl Talker {
    fn new(client: Client, to: &'static str) -> Talker {
        Talker { client, to, sent: Vec::new(), acknowledged: 0, requests: VecDeque::new() }
    }

    fn start_send(&mut self, number: usize) {
        let body = text_body(&self.text(number));
        self.requests.push_back(self.client.start_send(self.to, &self.sent[number], body));
    }

    fn text(&self, number: usize) -> String {
        format!("{} {number}", self.client.user())
    }

    fn texts(&self) -> Vec<String> {
        (0..self.sent.len()).map(|number| self.text(number)).collect()
    }

    /// Sends until so many are acknowledged, or the connection ends.
    fn talk(&mut self, until: usize) -> Result<(), Refusal> {
        while self.acknowledged < until {
            while self.requests.len() < IN_FLIGHT && self.sent.len() < until {
                self.sent.push(unique_id());
                self.start_send(self.sent.len() - 1);
            }
            let request = self.requests.pop_front().expect("some are on their way");
            self.client.answer::<SendReply>(request)?;
            self.acknowledged += 1;
        }
        Ok(())
    }

    /// Sends again, over another connection, what was not acknowledged.
    fn go_on(&mut self, client: Client) {
        self.client = client;
        self.requests.clear();
        (self.acknowledged..self.sent.len()).for_each(|number| self.start_send(number));
        self.talk(self.sent.len()).expect("acknowledged");
    }
}

/// These come, each once and in order, and nothing else.
fn hears(client: &mut Client, texts: &[String]) {
    assert_eq!(receive(client, texts.len()), texts);
    client.ping();
    assert_eq!(client.pushes_waiting(), 0);
}

/// What a conversation holds whose text begins so.
fn said(client: &mut Client, with: &str, beginning: &str) -> Vec<String> {
    let texts = client.conversation(with).into_iter().map(|message| message.text());
    texts.filter(|text| text.starts_with(beginning)).collect()
}

/// Runs `body` with all of it; `test` is its caller's name.
fn far_apart(test: &str, body: impl FnOnce(&Scene)) {
    if !has_no_embedded_store() {
        alone(&format!("regions::{test}"), || body(&Scene::start()));
    }
}

#[test]
fn geo_01_users_of_regions_far_apart_hear_each_other() {
    far_apart("geo_01_users_of_regions_far_apart_hear_each_other", |scene| {
        let users =
            [("east", "anna", "ben"), ("west", "ben", "anna"), ("core", "cleo", "dan"), ("east", "dan", "cleo")];
        let mut talkers = users.map(|(region, user, to)| Talker::new(scene.login(region, user), to));
        thread::scope(|scope| {
            talkers.iter_mut().for_each(|talker| _ = scope.spawn(|| talker.talk(100).expect("acknowledged")));
        });
        let texts = talkers.each_ref().map(Talker::texts);
        for (talker, peer) in talkers.iter_mut().zip([1, 0, 3, 2]) {
            hears(&mut talker.client, &texts[peer]);
            assert_eq!(said(&mut talker.client, talker.to, talker.to), texts[peer]);
        }
    });
}

#[test]
fn geo_01_geo_02_a_region_cut_off_is_noticed_and_loses_nothing() {
    far_apart("geo_01_geo_02_a_region_cut_off_is_noticed_and_loses_nothing", |scene| {
        let east = scene.regions.at("east");
        let (mut ben, mut cleo) = (scene.login("west", "ben"), scene.login("core", "cleo"));
        let mut anna = Talker::new(scene.login("east", "anna"), "ben");
        let (mut heard, mut missed) = (Vec::new(), Vec::new());
        for round in 1..=2 {
            eventually("all nodes are known", || told(&mut cleo) == ["core", "east", "west"]);
            let end = thread::scope(|scope| {
                let talking = scope.spawn(|| anna.talk(usize::MAX));
                heard.extend(receive(&mut ben, 20));
                east.cut();
                talking.join().expect("no panic inside")
            });
            // Both sides notice by themselves.
            assert_eq!(end.expect_err("cut off").code(), Some(ErrorCode::SERVER_DRAINING));
            east.within(|| eventually("it is not ready", || scene.east.get("/readyz").expect("it answers").0 == 503));
            eventually("she is gone", || cleo.presence_of("anna").state() == OnlineState::Offline);
            eventually("nobody is sent there", || told(&mut cleo) == ["core", "west"]);
            // The others go on.
            missed.push(format!("ben {round}"));
            ben.send("anna", &missed[missed.len() - 1]);
            ben.send("cleo", "she is away");
            hears(&mut cleo, &["she is away".to_owned()]);

            east.mend();
            scene.wait_linked();
            anna.go_on(scene.login("east", "anna"));
            heard.extend(receive(&mut ben, anna.sent.len() - heard.len()));
            assert_eq!(heard, anna.texts());
            assert_eq!(said(&mut ben, "anna", "anna"), anna.texts());
            assert_eq!(said(&mut anna.client, "ben", "ben"), missed);
        }
    });
}

#[test]
fn geo_01_a_core_cut_off_from_all_edges_finds_them_again() {
    far_apart("geo_01_a_core_cut_off_from_all_edges_finds_them_again", |scene| {
        let (mut anna, mut ben) = (scene.login("east", "anna"), scene.login("west", "ben"));
        let mut cleo = scene.login("core", "cleo");
        anna.send("ben", "before");
        hears(&mut ben, &["before".to_owned()]);
        scene.regions.at("core").cut();
        for client in [&mut anna, &mut ben] {
            assert_eq!(client.closed().map(|(code, _)| code), Some(ErrorCode::SERVER_DRAINING));
            eventually("gone", || cleo.presence_of(client.user()).state() == OnlineState::Offline);
            cleo.send(client.user(), "meanwhile");
        }
        scene.regions.at("core").mend();
        scene.wait_linked();
        let (mut anna, mut ben) = (scene.login("east", "anna"), scene.login("west", "ben"));
        assert_eq!(said(&mut anna, "cleo", "meanwhile"), ["meanwhile"]);
        ben.send("anna", "after");
        hears(&mut anna, &["after".to_owned()]);
        assert_eq!(said(&mut ben, "anna", ""), ["before", "after"]);
    });
}
