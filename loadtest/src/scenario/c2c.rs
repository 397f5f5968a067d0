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
    let by_target = outcome.tally.ack_us_at.clone();
    let mut report = Report::new(&plan.options, outcome)
        .with("unknown", unknown)
        .with("unsent", unsent)
        .with("reconnects", reconnects)
        .with("unverified", unverified);
    for (target, ack_us) in plan.targets.iter().zip(&by_target) {
        let name = if target.region.is_empty() { target.address.to_string() } else { target.region.clone() };
        report = report.with_latencies(&format!("ack_ms_{name}"), ack_us);
    }
    Ok(report)
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
    let first = Talker::open(worker, pair, 0, conversation.clone(), reconnect).await?;
    let second = Talker::open(worker, pair, 1, conversation.clone(), reconnect).await?;
    Ok((pair, conversation, [first, second]))
}

/// The number of a pair's user among all connections.
pub(super) fn connection_of(pair: u32, side: usize) -> u32 {
    pair * 2 + side as u32
}
