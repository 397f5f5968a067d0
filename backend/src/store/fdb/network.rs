//! The client library's network thread: started with the first [`Fdb`](super::Fdb) of a process,
//! stopped with the last. The library can't start it again.
//!
//! It has to end before the process does: the library's static variables are destroyed at exit, and a
//! network thread that still runs then crashes. A handler for exit comes too late, because variables
//! that the library makes later are destroyed earlier. So whoever opens the engine shuts it down.

use std::sync::{Arc, Mutex, Weak};

use foundationdb::{
    FdbResult,
    api::{FdbApiBuilder, NetworkAutoStop},
};

use super::{super::lock, OpenError, errors::text};

/// The running thread; dropping the last reference stops and joins it.
pub(super) struct Network {
    _running: NetworkAutoStop,
}

/// The network thread that runs, or ran.
static STARTED: Mutex<Option<Weak<Network>>> = Mutex::new(None);

/// Starts the network thread, or takes part in the running one.
pub(super) fn join() -> Result<Arc<Network>, OpenError> {
    let mut started = lock(&STARTED);
    if let Some(network) = &*started {
        let gone = "its network thread has ended, which starts only once in a process";
        return network.upgrade().ok_or_else(|| OpenError::Client(gone.into()));
    }
    *started = Some(Weak::new());
    let network = Arc::new(start().map_err(|error| OpenError::Client(text(error)))?);
    *started = Some(Arc::downgrade(&network));
    Ok(network)
}

#[allow(unsafe_code)]
fn start() -> FdbResult<Network> {
    let network = FdbApiBuilder::default().build()?;
    // SAFETY: what this returns must be dropped before the process exits. Every `Fdb` holds it until
    // its shutdown, which the front does at the latest when the last `Store` is dropped, and the
    // gateway before it returns from `run`.
    let running = unsafe { network.boot()? };
    Ok(Network { _running: running })
}
