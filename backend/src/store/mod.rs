//! The store seam: ordered byte keys and optimistic, serialisable transactions over them.
//!
//! Shaped after FoundationDB, because that is the engine for production; what holds there holds on
//! every engine, limits included, so that what passes on one passes on the other. Everything above
//! the seam sees [`Store`] and [`Tx`]; an engine implements [`Engine`] and [`EngineTx`].
//!
//! What lives here: the seam's types (`seam`), its front ([`Store`], [`Tx`]: limits, retry, worker
//! threads) and the engines ([`Embedded`], [`Memory`], with the feature `fdb` `fdb::Fdb`). What may not:
//! any knowledge of what the keys mean.
//!
//! Two promises hold on every engine:
//! 1. a transaction is reported committed only once it is durable, and a read-only transaction is
//!    answered only once everything it saw is durable;
//! 2. on the engines in this process, completions ([`Store::run_then`]) are called in commit order.

mod attempt;
mod buffer;
mod conflicts;
mod draft;
mod embedded;
#[cfg(feature = "fdb")]
pub mod fdb;
mod front;
mod lane;
mod memory;
mod metrics;
mod pool;
mod seam;
mod turns;
mod tx;
mod watches;

pub use embedded::{Embedded, EmbeddedOptions, OpenError};
pub use front::{Lane, Retry, Store, StoreOptions};
pub use memory::{Faults, Memory};
pub use seam::*;
pub use tx::{Earlier, Tx};
pub use watches::Watch;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock whose data stays sound whatever panicked while it was held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
