//! A connection was lost: its user comes back.

use std::{rc::Rc, time::Duration};

use anyhow::Result;
use glommio::timer::sleep;

use crate::{
    client::{Client, PATIENCE_US, User},
    payload::mix,
    worker::Worker,
};

/// Waits between attempts, doubling from the first to the last.
const BACK_OFF_MS: (u64, u64) = (50, 2_000);

/// Connects and logs in again as connection `number`, at each target in turn behind the one that it was at, however long
/// the server is away, up to a limit. Where it is now is in `target` and on the board.
pub(super) async fn come_back(worker: &Rc<Worker>, number: u32, user: &User, target: &mut usize) -> Result<Client> {
    let plan = &worker.plan;
    let give_up_us = plan.clock.now_us() + PATIENCE_US;
    let mut wait_ms = BACK_OFF_MS.0;
    loop {
        let jitter = mix(plan.seed ^ plan.clock.now_us() ^ u64::from(number)) % wait_ms;
        sleep(Duration::from_millis(wait_ms / 2 + jitter)).await;
        *target = (*target + 1) % plan.targets.len();
        match Client::open_at(worker, *target, user).await {
            Ok(client) => {
                plan.board.is_at(number, *target);
                worker.tally.borrow_mut().reconnects += 1;
                return Ok(client);
            }
            Err(error) if plan.clock.now_us() >= give_up_us => return Err(error),
            Err(_) => wait_ms = (wait_ms * 2).min(BACK_OFF_MS.1),
        }
    }
}
