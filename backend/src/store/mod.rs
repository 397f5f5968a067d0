//! The store seam: ordered byte keys and optimistic, serialisable transactions over them.
//!
//! Shaped after FoundationDB, because that is the engine for production; what holds there holds on
//! every engine, limits included, so that what passes on one passes on the other. Everything above
//! the seam sees [`Store`] and [`Tx`]; an engine implements [`Engine`] and [`EngineTx`].
//!
//! What lives here: the seam's types ([`seam`]), its front ([`Store`], [`Tx`]: limits, retry, worker
//! threads) and the engines. What may not: any knowledge of what the keys mean.
//!
//! Two promises hold on every engine:
//! 1. a transaction is reported committed only once it is durable, and a read-only transaction is
//!    answered only once everything it saw is durable;
//! 2. on the embedded engine, completions ([`Store::run_then`]) are called in commit order.

mod seam;

pub use seam::*;
