//! TLS session tickets that are good on all nodes of a deployment (RFC 8446, 4.6.1): a client that has logged in at one
//! access point resumes at another.
//!
//! Nodes share a key for each six hours. The first core that finds a period begun draws its key and puts it into the store
//! ([`crate::rotation`]); edges are given it by their core. A key is drawn for its period alone and removed when the next
//! but one begins: who has stolen a node or a backup has the keys of twelve hours, not those of before, nor those of after
//! it is shut out. A ticket is good under the present key and the one before: for six hours at the least.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::fill,
};
use backend::{domain::deployment::TicketKey, env::Clock};
use protocol::link_message;
use rustls::server::ProducesTickets;

/// Each key is the present one for so long, in seconds.
const PERIOD_S: u64 = 6 * 3600;

/// Tickets are sent with the period of their key in front, so that the right one is found.
const PERIOD_BYTES: usize = 8;

/// Makes and opens tickets.
pub struct Tickets {
    clock: Arc<dyn Clock>,
    keys: ArcSwap<Keys>,
}

/// Those of the deployment; none until they are known.
#[derive(Default)]
struct Keys {
    shared: Vec<TicketKey>,
    /// The same, ready to be used.
    ready: Vec<(u64, LessSafeKey)>,
}

impl Tickets {
    /// Without keys: no tickets are made until [`Self::share`].
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Tickets { clock, keys: ArcSwap::default() })
    }

    /// From now on the deployment's keys are these. None at all are said by a core of an earlier release.
    pub fn share(&self, keys: Vec<TicketKey>) {
        if keys.is_empty() || self.keys.load().shared == keys {
            return;
        }
        let ready = |it: &TicketKey| Some((it.period, LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &it.key).ok()?)));
        let ready = keys.iter().filter_map(ready).collect();
        self.keys.store(Arc::new(Keys { shared: keys, ready }));
    }

    /// What others are told: the keys that are in use.
    pub fn shared(&self) -> Vec<TicketKey> {
        let now = self.period();
        self.keys.load().shared.iter().filter(|it| it.period.abs_diff(now) <= 1).copied().collect()
    }

    /// The present period.
    pub fn period(&self) -> u64 {
        self.clock.unix_ms() / 1000 / PERIOD_S
    }

    /// Whether the present period has no key yet.
    pub fn are_due(&self) -> bool {
        let now = self.period();
        !self.shared().iter().any(|it| it.period >= now)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        PERIOD_S as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let (now, keys) = (self.period(), self.keys.load());
        let near = keys.ready.iter().filter(|(period, _)| period.abs_diff(now) <= 1);
        let (period, key) = near.max_by_key(|(period, _)| *period)?;
        let mut nonce = [0; NONCE_LEN];
        fill(&mut nonce).ok()?;
        let head = period.to_be_bytes();
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(head), &mut sealed).ok()?;
        Some([&head[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (head, rest) = ticket.split_first_chunk::<PERIOD_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let period = u64::from_be_bytes(*head);
        let keys = self.keys.load();
        let is_near = period.abs_diff(self.period()) <= 1;
        let (_, key) = keys.ready.iter().find(|(of, _)| is_near && *of == period)?;
        let mut opened = sealed.to_vec();
        let plain = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(*head), &mut opened).ok()?;
        let length = plain.len();
        opened.truncate(length);
        Some(opened)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

/// Keys as an edge is told them.
pub fn told(keys: &[TicketKey]) -> Vec<link_message::TicketKey> {
    keys.iter().map(|it| link_message::TicketKey { period: it.period, key: it.key.to_vec().into() }).collect()
}

/// Keys as an edge has heard them.
pub fn heard(keys: &[link_message::TicketKey]) -> Vec<TicketKey> {
    keys.iter().filter_map(|it| Some(TicketKey { period: it.period, key: it.key[..].try_into().ok()? })).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use backend::{
        env::SeededRng,
        store::{Faults, Memory, Store, StoreOptions},
    };
    use futures::executor::block_on;

    use super::*;
    use crate::rotation::rotate;

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn unix_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
        fn monotonic_us(&self) -> u64 {
            0
        }
    }

    impl Hand {
        fn next_period(&self) {
            self.0.fetch_add(PERIOD_S * 1000, Ordering::Relaxed);
        }
    }

    const PLAIN: &[u8] = b"a session";

    fn opens(tickets: &Tickets, ticket: &[u8]) -> bool {
        tickets.decrypt(ticket).inspect(|plain| assert_eq!(plain, PLAIN)).is_some()
    }

    #[test]
    fn geo_01_a_ticket_is_good_on_all_nodes_for_as_long_as_it_says() {
        let clock = Arc::new(Hand(AtomicU64::new(1_800_000_000_000)));
        let keys = |byte| vec![TicketKey { period: 1_800_000_000 / PERIOD_S, key: [byte; 32] }];
        let node = |byte: u8| {
            let node = Tickets::new(clock.clone());
            assert_eq!(node.encrypt(PLAIN), None, "nobody has said a key");
            node.share(keys(byte));
            node
        };
        let (one, two, stranger) = (node(7), node(7), node(8));
        let ticket = one.encrypt(PLAIN).unwrap();
        assert_ne!(one.encrypt(PLAIN).unwrap(), ticket, "no two are alike");
        assert!(opens(&two, &ticket) && !opens(&stranger, &ticket));
        stranger.share(Vec::new());
        assert!(!stranger.shared().is_empty(), "an earlier release tells none");
        stranger.share(keys(7));
        assert!(opens(&stranger, &ticket), "it was given the key");
        for at in 0..ticket.len() {
            let mut broken = ticket.clone();
            broken[at] ^= 1;
            assert_eq!(two.decrypt(&broken), None, "byte {at}");
            assert_eq!(two.decrypt(&ticket[..at]), None);
        }
        clock.next_period();
        assert!(opens(&two, &ticket));
        clock.next_period();
        assert!(!opens(&two, &ticket), "keys rotate");
        assert_eq!((two.shared().len(), two.encrypt(PLAIN)), (0, None), "nor is it used or told any more");
    }

    #[test]
    fn geo_01_nodes_go_on_with_each_other_s_tickets_across_rotations_and_who_is_shut_out_stays_out() {
        let clock = Arc::new(Hand(AtomicU64::new(1_800_000_000_000)));
        let engine = Arc::new(Memory::new(1, Faults::default()));
        let store = Store::new(engine, clock.clone(), Arc::new(SeededRng::new(1)), StoreOptions::default());
        let [one, two, edge, lost] = [(); 4].map(|()| Tickets::new(clock.clone()));
        let rotate_all = || {
            for core in [&one, &two] {
                assert!(core.are_due());
                block_on(rotate(core, &store)).unwrap();
                assert!(!core.are_due());
            }
            edge.share(heard(&told(&two.shared())));
        };
        rotate_all();
        lost.share(edge.shared());
        let first = one.encrypt(PLAIN).unwrap();
        assert!([&two, &edge, &lost].iter().all(|node| opens(node, &first)));
        clock.next_period();
        // Before anybody has drawn the next key, the one there is serves.
        assert!(opens(&two, &edge.encrypt(PLAIN).unwrap()));
        rotate_all();
        let second = edge.encrypt(PLAIN).unwrap();
        assert!([&one, &two].iter().all(|core| opens(core, &first) && opens(core, &second)));
        assert!(!opens(&lost, &second), "it was not told");
        clock.next_period();
        let forged = first; // sealed with all that the lost one knows
        rotate_all();
        assert!([&one, &two, &edge].iter().all(|node| opens(node, &second) && !opens(node, &forged)));
        // Nothing that an edge is told, or that is stored, says an earlier key.
        assert!(edge.shared().iter().all(|key| !lost.keys.load().shared.contains(key)));
        store.shutdown();
    }
}
