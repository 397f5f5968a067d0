//! `idle`: what a connection costs the server in memory. Opens and logs in all connections, holds them for
//! the measured time with heartbeats alone, and compares the server's memory before and after.

use std::{rc::Rc, sync::Arc};

use anyhow::Result;

use crate::{
    client::Client,
    clock::Micros,
    report::Report,
    run::on_all_threads,
    worker::{Plan, Worker},
};

pub(super) fn run(plan: &Arc<Plan>) -> Result<Report> {
    let outcome = on_all_threads(plan, work)?;
    // Connections that were lost would make the others look cheap.
    let are_all_there = outcome.tally.findings.errors == 0;
    let grown = outcome.before.zip(outcome.end).map(|(before, end)| end.rss_bytes.saturating_sub(before.rss_bytes));
    let bytes_per_connection = grown.filter(|_| are_all_there).map(|bytes| bytes / u64::from(plan.options.connections));
    Ok(Report::new(&plan.options, outcome).with_bytes_per_connection(bytes_per_connection))
}

async fn work(worker: Rc<Worker>) -> Result<()> {
    let connections = worker.plan.options.connections;
    let clients = worker.set_up(worker.share(connections), |index| open(&worker, index)).await?;
    let span = worker.wait_for_start().await?;
    super::join_all(clients.into_iter().map(|client| hold(worker.clone(), client, span.end_us))).await;
    Ok(())
}

/// A login counts as sent and, once answered, as acked: its latency goes from connecting to the answer.
async fn open(worker: &Worker, index: u32) -> Result<Client> {
    let user = worker.plan.user(index);
    let start_us = worker.plan.clock.now_us();
    worker.tally.borrow_mut().sent += 1;
    let client = Client::open(worker, &user).await?;
    let mut tally = worker.tally.borrow_mut();
    tally.connected += 1;
    tally.ack(start_us, worker.plan.clock.now_us(), 0); // before the measured time
    Ok(client)
}

async fn hold(worker: Rc<Worker>, mut client: Client, end_us: Micros) {
    if let Err(error) = hold_until(&mut client, end_us).await {
        worker.tally.borrow_mut().findings.error(|| format!("{error:#}"));
    }
    _ = client.close().await;
}

async fn hold_until(client: &mut Client, end_us: Micros) -> Result<()> {
    // A little longer than measured, so that the server's figures are taken with everybody there.
    const MARGIN_US: Micros = 500_000;
    while client.turn(end_us + MARGIN_US).await? < end_us + MARGIN_US {
        while client.next_event()?.is_some() {}
    }
    Ok(())
}
