//! kill -9 in the middle of load (the first three invariants).
//!
//! Goal: what was acknowledged survives the loss of the process, once and at the place it was given, and
//! what was not answered can be sent again under its id. Mechanics: talkers with many sends in flight; the
//! gateway is killed after a random number of acknowledgements; what it left is looked through by
//! `gateway store check`, and it is started on the same folder; then every conversation is compared with
//! what the talkers were told. 5 rounds; `KILL_ROUNDS=100` for a long run.
//! Without it an acknowledgement before the sync to disk would go unnoticed until a power cut.

use std::{
    collections::{HashSet, VecDeque},
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use protocol::message::SendReply;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use tests::{Answer, Gateway, Options, Refusal, Seed, eventually, text_body, unique_id};

const TALKERS: usize = 4;
const IN_FLIGHT: usize = 16;

/// A user that sends to another one, and remembers what it was told.
struct Talker {
    user: String,
    peer: String,
    /// Each id with its sequence, once acknowledged, in the order sent.
    sent: Vec<([u8; 16], Option<u64>)>,
    /// The peer's device: how far it has come, and what it got.
    cursor: Bytes,
    received: Vec<u64>,
}

impl Talker {
    fn new(index: usize) -> Self {
        let (user, peer) = (format!("talker-{index}"), format!("peer-{index}"));
        Talker { user, peer, sent: Vec::new(), cursor: Bytes::new(), received: Vec::new() }
    }

    /// Sends what was not answered before, then more and more, until the gateway is gone.
    fn talk(&mut self, gateway: &Gateway, acked: &AtomicUsize) -> Answer<()> {
        let mut client = gateway.try_connect(&self.user, Options::default())?;
        client.try_login()?;
        let mut unanswered: VecDeque<usize> =
            (0..self.sent.len()).filter(|&index| self.sent[index].1.is_none()).collect();
        let mut in_flight = VecDeque::new();
        loop {
            while in_flight.len() < IN_FLIGHT {
                let index = unanswered.pop_front().unwrap_or_else(|| {
                    self.sent.push((unique_id(), None));
                    self.sent.len() - 1
                });
                let request = client.start_send(&self.peer, &self.sent[index].0, text_body(&index.to_string()));
                in_flight.push_back((request, index));
            }
            if let Some((request, index)) = in_flight.pop_front() {
                self.sent[index].1 = Some(client.answer::<SendReply>(request)?.seq);
                acked.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Compares what is stored with what was acknowledged, and has a few sent again.
    fn verify(&mut self, gateway: &Gateway, random: &mut StdRng) {
        let mut client = gateway.login(&self.user);
        let stored = client.conversation(&self.peer);
        let seqs: Vec<u64> = stored.iter().map(|message| message.seq).collect();
        assert_eq!(seqs, (1..=stored.len() as u64).collect::<Vec<_>>(), "sequences without a gap");
        let ids: HashSet<_> = stored.iter().map(|message| &message.client_message_id[..]).collect();
        assert_eq!(ids.len(), stored.len(), "no message twice");
        let acked: Vec<_> = self.sent.iter().filter_map(|(id, seq)| Some((id, (*seq)?))).collect();
        for (id, seq) in &acked {
            let found = stored.get(*seq as usize - 1).map(|message| &message.client_message_id[..]);
            assert_eq!(found, Some(&id[..]), "acknowledged as {seq}, and lost");
        }
        for _ in 0..5.min(acked.len()) {
            let (id, seq) = acked[random.random_range(0..acked.len())];
            let again = client.send_as(&self.peer, id, text_body("again")).expect("a resend is answered");
            assert_eq!((again.seq, again.duplicate), (seq, true));
        }
        // The peer's cursor is from before the kill.
        let mut peer = gateway.connect(&self.peer);
        peer.cursor = self.cursor.clone();
        self.received.extend(peer.log_in_and_sync().iter().map(|message| message.seq));
        self.cursor = peer.cursor.clone();
        assert_eq!(self.received, seqs, "the log brings every message once and in order");
    }
}

#[test]
fn msg_04_what_was_acknowledged_survives_kill_9_in_the_middle_of_load() {
    let rounds = std::env::var("KILL_ROUNDS").map_or(5, |text| text.parse().expect("KILL_ROUNDS is a number"));
    let mut random = StdRng::seed_from_u64(*Seed::for_test("msg_04_what_was_acknowledged_survives"));
    let mut talkers: Vec<Talker> = (0..TALKERS).map(Talker::new).collect();
    let mut gateway = Gateway::start();
    for talker in &talkers {
        gateway.login(&talker.peer);
    }
    for round in 1..=rounds {
        let acked = AtomicUsize::new(0);
        let enough = random.random_range(1..600);
        std::thread::scope(|scope| {
            for talker in &mut talkers {
                let (gateway, acked) = (&gateway, &acked);
                scope.spawn(move || match talker.talk(gateway, acked) {
                    Err(Refusal::Closed(None)) => {} // killed: not even a go-away
                    other => panic!("{other:?}"),
                });
            }
            eventually("some acknowledgements", || acked.load(Ordering::Relaxed) >= enough);
            gateway.process().signal(Signal::KILL);
        });
        let killed = gateway.kill();
        killed.check_store();
        gateway = killed.start();
        for talker in &mut talkers {
            talker.verify(&gateway, &mut random);
        }
        println!("round {round} of {rounds}: killed after {} acknowledgements", acked.load(Ordering::Relaxed));
    }
}
