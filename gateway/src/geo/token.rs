//! The probe token: lets the client that was told where to connect say what it measured, and nobody else.
//!
//! It holds the client's address and the time, and is signed, with a key that all nodes share; nothing is kept for it. So
//! what is reported counts for the network that asked, from nowhere else, and only for as long as the token is good. It is
//! bound to no application, for none is known before login; votes are the networks', not the applications'.

use std::net::{IpAddr, Ipv6Addr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How long a client may take from asking to reporting, in seconds.
const GOOD_FOR_S: u64 = 900;

/// How far clocks of nodes may lie apart, in seconds.
const SKEW_S: u64 = 60;

/// Version, address (IPv4 mapped), seconds since the Unix epoch, signature.
const VERSION: u8 = 1;
const SIGNED_BYTES: usize = 1 + 16 + 8;
const MAC_BYTES: usize = 16;

/// Bytes of a token.
pub const TOKEN_BYTES: usize = SIGNED_BYTES + MAC_BYTES;

/// Makes tokens and knows them again.
pub struct Tokens(Hmac<Sha256>);

impl Tokens {
    /// With the key that signs them.
    pub fn new(key: [u8; 32]) -> Self {
        Tokens(Hmac::new_from_slice(&key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length")))
    }

    /// A token for a client at `ip`.
    pub fn issue(&self, ip: IpAddr, now_s: u64) -> [u8; TOKEN_BYTES] {
        let address = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut token = [0; TOKEN_BYTES];
        let (signed, mac) = token.split_at_mut(SIGNED_BYTES);
        signed[0] = VERSION;
        signed[1..17].copy_from_slice(&address.octets());
        signed[17..].copy_from_slice(&now_s.to_be_bytes());
        mac.copy_from_slice(&self.mac(signed).finalize().into_bytes()[..MAC_BYTES]);
        token
    }

    /// Whom a token was made for; `None` if it was not made here, or is not good any more.
    pub fn check(&self, token: &[u8], now_s: u64) -> Option<IpAddr> {
        let token: &[u8; TOKEN_BYTES] = token.try_into().ok()?;
        let (signed, mac) = token.split_at(SIGNED_BYTES);
        self.mac(signed).verify_truncated_left(mac).ok()?;
        let (version, rest) = signed.split_first()?;
        let (address, issued) = rest.split_at(16);
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?);
        let issued_s = u64::from_be_bytes(issued.try_into().ok()?);
        let is_good = issued_s <= now_s.saturating_add(SKEW_S) && now_s <= issued_s.saturating_add(GOOD_FOR_S);
        (*version == VERSION && is_good).then(|| IpAddr::V6(address).to_canonical())
    }

    fn mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(signed);
        mac
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    #[test]
    fn geo_03_a_token_is_good_for_its_client_and_time() {
        let tokens = Tokens::new([7; 32]);
        for ip in ["198.51.100.7", "2001:db8::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let token = tokens.issue(ip, NOW_S);
            assert_eq!(tokens.check(&token, NOW_S + GOOD_FOR_S), Some(ip));
            assert_eq!(tokens.check(&token, NOW_S - SKEW_S), Some(ip));
            assert_eq!(tokens.check(&token, NOW_S + GOOD_FOR_S + 1), None);
            assert_eq!(tokens.check(&token, NOW_S - SKEW_S - 1), None);
            assert_eq!(Tokens::new([8; 32]).check(&token, NOW_S), None);
            assert_eq!(tokens.check(&token[1..], NOW_S), None);
        }
        assert_eq!(tokens.check(&[], NOW_S), None);
    }

    proptest! {
        #[test]
        fn geo_03_no_bit_of_a_token_can_be_changed(bit in 0..TOKEN_BYTES * 8) {
            let tokens = Tokens::new([7; 32]);
            let mut token = tokens.issue(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), NOW_S);
            token[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(tokens.check(&token, NOW_S), None);
        }
    }
}
