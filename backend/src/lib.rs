//! What an instant-messaging service stores and decides, without knowing how it is reached.
//!
//! - [`store`]: the transactional, ordered key-value seam and its engines.
//! - [`domain`]: what an IM is (applications, logins, conversations, messages, event logs), written
//!   once on the seam.
//!
//! What may not live here: an async runtime, sockets, wire codes, ambient time or ambient randomness.
//! Time and randomness come in through [`env::Clock`] and [`env::Rng`], so that a test decides both.

pub mod domain;
pub mod env;
pub mod store;
