//! `c2c`: pairs of users who send to each other. Every ack and every delivery is timed and checked; at the
//! end everybody logs in afresh and everything is read back.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use anyhow::Result;

use super::{
    readback::{self, Book},
    talker::{SharedConversation, Talker},
};
use crate::{
    report::Report,
    run::on_all_threads,
    worker::{Plan, Worker},
};

pub(super) fn run(plan: &Arc<Plan>, reconnect: bool) -> Result<Report> {
    let outcome = on_all_threads(plan, move |worker| work(worker, reconnect))?;
    let (unknown, unsent) = (outcome.tally.unknown, outcome.tally.unsent);
    let (reconnects, unverified) = (outcome.tally.reconnects, outcome.tally.unverified);
    let return_us = outcome.tally.return_us.clone();
    Ok(Report::new(&plan.options, outcome)
        .with("unknown", unknown)
        .with("unsent", unsent)
        .with("reconnects", reconnects)
        .with_latencies("return_ms", &return_us)
        .with("unverified", unverified))
}

/// Pairs talk for the measured time, and everything is read back.
pub(super) async fn work(worker: Rc<Worker>, reconnect: bool) -> Result<()> {
    let pairs = worker.plan.options.connections / 2;
    let open = |pair| open_pair(&worker, pair, reconnect);
    let pairs = worker.set_up(worker.share(pairs), open).await?;
    let span = worker.wait_for_start().await?;

    let mut books = Vec::new();
    let mut talkers = Vec::new();
    for (pair, conversation, both) in pairs {
        let numbers = [0, 1].map(|side| connection_of(pair, side));
        let names = numbers.map(|number| worker.plan.user_name(number));
        books.push(Book { conversation, numbers, names, readers: &[0, 1] });
        talkers.extend(both);
    }
    super::join_all(talkers.into_iter().map(|talker| talker.run(span))).await;

    readback::read_back(&worker, &books, reconnect).await;
    Ok(())
}

type Pair = (u32, SharedConversation, [Talker; 2]);

/// Opens both connections of a pair; both users exist before either sends.
async fn open_pair(worker: &Rc<Worker>, pair: u32, reconnect: bool) -> Result<Pair> {
    let conversation: SharedConversation = Rc::new(RefCell::default());
    let [here, there] = homes_of(pair, worker.plan.targets.len());
    let first = Talker::open(worker, pair, 0, here, conversation.clone(), reconnect).await?;
    let second = Talker::open(worker, pair, 1, there, conversation.clone(), reconnect).await?;
    Ok((pair, conversation, [first, second]))
}

/// The numbers of the targets at which a pair's two begin: different ones, and in turn each with each.
fn homes_of(pair: u32, targets: usize) -> [usize; 2] {
    let (turn, round) = (pair as usize % targets, pair as usize / targets);
    let away = if targets > 1 { 1 + round % (targets - 1) } else { 0 };
    [turn, (turn + away) % targets]
}

/// The number of a pair's user among all connections.
pub(super) fn connection_of(pair: u32, side: usize) -> u32 {
    pair * 2 + side as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pairs_are_at_different_targets_and_in_turn_at_all_of_them() {
        assert_eq!(homes_of(7, 1), [0, 0]);
        for targets in 2..6 {
            let ways = targets * (targets - 1);
            let homes: HashSet<_> = (0..ways as u32).map(|pair| homes_of(pair, targets)).collect();
            assert_eq!(homes.len(), ways, "{homes:?}");
            assert!(homes.iter().all(|[here, there]| here != there), "{homes:?}");
        }
    }
}
