//! TLS session tickets that are good on all nodes of a deployment (RFC 8446, 4.6.1): a client that has logged in at one
//! access point resumes at another.
//!
//! Nodes share one secret, drawn when the store was new; edges are given it by their core. The keys of tickets follow from
//! it and the time, another one each six hours, so that nobody has to agree on anything and all rotate at once. A ticket is
//! good under the present key and its neighbours: for six hours at the least, and where clocks differ.

use std::{
    fmt,
    sync::{Arc, RwLock},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
    rand::fill,
};
use backend::env::Clock;
use rustls::server::ProducesTickets;

/// Bytes of the secret that nodes share.
pub const SECRET_BYTES: usize = 32;

/// Each key is the present one for so long, in seconds.
const PERIOD_S: u64 = 6 * 3600;

/// Tickets are sent with the period of their key in front, so that the right one is found.
const PERIOD_BYTES: usize = 8;

/// Makes and opens tickets.
pub struct Tickets {
    secret: ArcSwap<hmac::Key>,
    /// The same as it was given, to know it again.
    shared: ArcSwapOption<[u8; SECRET_BYTES]>,
    clock: Arc<dyn Clock>,
    /// Keys made so far, by period: the present one and its neighbours.
    keys: RwLock<Vec<(u64, Arc<LessSafeKey>)>>,
}

impl Tickets {
    /// With the secret of the deployment, or one of this process until it is known.
    pub fn new(secret: &[u8; SECRET_BYTES], clock: Arc<dyn Clock>) -> Arc<Self> {
        let secret = ArcSwap::from_pointee(hmac::Key::new(hmac::HMAC_SHA256, secret));
        Arc::new(Tickets { secret, shared: ArcSwapOption::empty(), clock, keys: RwLock::default() })
    }

    /// From now on the deployment's secret is this one.
    pub fn share(&self, secret: &[u8; SECRET_BYTES]) {
        if self.shared.load().as_deref() == Some(secret) {
            return;
        }
        self.shared.store(Some(Arc::new(*secret)));
        self.secret.store(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    fn period(&self) -> u64 {
        self.clock.unix_ms() / 1000 / PERIOD_S
    }

    /// The key of a period that is near the present.
    fn key(&self, period: u64) -> Option<Arc<LessSafeKey>> {
        let now = self.period();
        if period.abs_diff(now) > 1 {
            return None;
        }
        let found =
            |keys: &[(u64, Arc<LessSafeKey>)]| keys.iter().find(|(of, _)| *of == period).map(|(_, key)| key.clone());
        if let Some(key) = found(&self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner)) {
            return Some(key);
        }
        let mut derived = hmac::Context::with_key(&self.secret.load());
        derived.update(b"tls ticket");
        derived.update(&period.to_be_bytes());
        let key = Arc::new(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, derived.sign().as_ref()).ok()?));
        let mut keys = self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.retain(|(of, _)| of.abs_diff(now) <= 1);
        keys.push((period, key.clone()));
        Some(key)
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
        let period = self.period();
        let key = self.key(period)?;
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
        let key = self.key(u64::from_be_bytes(*head))?;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn unix_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
        fn monotonic_us(&self) -> u64 {
            0
        }
    }

    #[test]
    fn geo_01_a_ticket_is_good_on_all_nodes_for_as_long_as_it_says() {
        let clock = Arc::new(Hand(AtomicU64::new(1_800_000_000_000)));
        let node = |secret: u8| Tickets::new(&[secret; SECRET_BYTES], clock.clone());
        let (one, two, stranger) = (node(7), node(7), node(8));
        let ticket = one.encrypt(b"a session").unwrap();
        assert_ne!(one.encrypt(b"a session").unwrap(), ticket, "no two are alike");
        assert_eq!(two.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        assert_eq!(stranger.decrypt(&ticket), None);
        stranger.share(&[7; SECRET_BYTES]);
        assert_eq!(stranger.decrypt(&ticket).as_deref(), Some(&b"a session"[..]), "it was given the secret");
        for at in 0..ticket.len() {
            let mut broken = ticket.clone();
            broken[at] ^= 1;
            assert_eq!(two.decrypt(&broken), None, "byte {at}");
            assert_eq!(two.decrypt(&ticket[..at]), None);
        }
        clock.0.fetch_add(PERIOD_S * 1000, Ordering::Relaxed);
        assert!(two.decrypt(&ticket).is_some());
        clock.0.fetch_add(PERIOD_S * 1000, Ordering::Relaxed);
        assert_eq!(two.decrypt(&ticket), None, "keys rotate");
        assert!(two.keys.read().unwrap().len() <= 3);
    }
}
