//! Where an application's own server can have its say before an act is carried out, and hears of what was refused. What
//! it is told afterwards stands in a queue: [`super::callbacks`].
//!
//! A hook decides about acts and knows nothing of sockets: it hands out a future, which whoever submits
//! the act waits for. An act without objections costs one call.
//!
//! What may not live here: how an application's server is reached.

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{Error, UserId, act::Act, callbacks::Caller};

/// What an application says about an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be carried out.
    Pass,
    /// A message may be sent with this body, an encoded [`Body`](protocol::message::Body), in place of its own.
    Replace(Bytes),
    /// A change may be made without these users, each of whom is refused with a code.
    RefuseSome(Vec<(UserId, u32)>),
    /// It is answered as if it had been carried out, and is not.
    Drop,
}

/// An application's say in what its users do. Called on the cores: must not block.
pub trait Hooks: Send + Sync + 'static {
    /// Before an act is taken over, once it has been checked. `None`: no objection. A future is waited for:
    /// with an error ([`Error::Refused`] for the application's own reasons) the act is not carried out.
    fn before(&self, act: &Act, caller: &Caller) -> Option<BoxFuture<'static, Result<Verdict, Error>>>;

    /// An act was refused, by whomever. Called on the store's threads, too.
    fn refused(&self, _act: &Act, _caller: &Caller, _error: &Error) {}
}

/// Nobody has anything to say.
#[derive(Debug)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn before(&self, _: &Act, _: &Caller) -> Option<BoxFuture<'static, Result<Verdict, Error>>> {
        None
    }
}
