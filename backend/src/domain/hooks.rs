//! Where an application's own server can have its say: before an act is carried out, and after.
//!
//! A hook decides about acts and knows nothing of sockets: it hands out a future, which whoever submits
//! the act waits for. An act without objections costs one call.
//!
//! What may not live here: how an application's server is reached.

use futures::future::BoxFuture;

use super::{
    Error,
    act::{Act, Outcome},
};

/// An application's say in what its users do. Called on the cores and on the store's threads: must not block.
pub trait Hooks: Send + Sync + 'static {
    /// Before an act is taken over, once it has been checked. `None`: no objection. A future is waited for:
    /// with an error ([`Error::Refused`] for the application's own reasons) the act is not carried out.
    fn before(&self, act: &Act) -> Option<BoxFuture<'static, Result<(), Error>>>;

    /// After an act was carried out and is durable, once, in the order in which acts are told to devices.
    fn after(&self, act: &Act, outcome: &Outcome);
}

/// Nobody has anything to say.
#[derive(Debug)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn before(&self, _: &Act) -> Option<BoxFuture<'static, Result<(), Error>>> {
        None
    }

    fn after(&self, _: &Act, _: &Outcome) {}
}
