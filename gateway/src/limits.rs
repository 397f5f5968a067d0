//! The operating system's limits that this process needs: checked, and raised where that is allowed.

use anyhow::{bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Locked memory that a ring needs, in bytes.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Descriptors for everything that is no client connection: store files, rings, listeners.
const FILES_RESERVED: u64 = 512;

/// Without a wish, no more than this: some systems allow a thousand million files.
const CONNECTIONS_UNASKED_MAX: u64 = 100_000;

/// Fewest connections worth starting for.
const CONNECTIONS_MIN: u64 = 64;

/// Checks the limits, and returns how many connections may be open: `wanted`, or as many as possible for 0.
pub fn check(wanted: usize) -> anyhow::Result<usize> {
    check_memlock()?;
    let allowed = raise_open_files();
    let wanted = wanted as u64;
    let possible = allowed.saturating_sub(FILES_RESERVED).min(CONNECTIONS_UNASKED_MAX);
    let connections = if wanted == 0 { possible } else { wanted };
    if connections < CONNECTIONS_MIN && wanted == 0 || connections + FILES_RESERVED > allowed {
        let needed = connections.max(CONNECTIONS_MIN) + FILES_RESERVED;
        bail!(
            "the open-files limit is {allowed}, but {needed} are needed: raise it (ulimit -n {needed}, or \
             LimitNOFILE={needed} in the service's unit) or lower client.connections_max"
        );
    }
    Ok(usize::try_from(connections).unwrap_or(usize::MAX))
}

fn check_memlock() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Memlock);
    if limit.maximum.is_none_or(|maximum| maximum >= MEMLOCK_BYTES_MIN) {
        raise(Resource::Memlock, limit);
    }
    let current = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    ensure!(
        current >= MEMLOCK_BYTES_MIN,
        "the locked-memory limit is {current} bytes, but io_uring needs {MEMLOCK_BYTES_MIN}: raise it \
         (ulimit -l 512, or LimitMEMLOCK=8M in the service's unit)"
    );
    Ok(())
}

fn raise_open_files() -> u64 {
    raise(Resource::Nofile, getrlimit(Resource::Nofile));
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft limit to the hard one. Failing is no error: the check that follows says what is missing.
fn raise(resource: Resource, limit: Rlimit) {
    let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
