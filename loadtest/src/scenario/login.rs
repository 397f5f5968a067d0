//! `login`: connects, logs in and closes, over and over. The first half of the time every TLS handshake is
//! a full one; in the second half clients come back with the session tickets they were given.

use std::{rc::Rc, sync::Arc, time::Duration};

use anyhow::Result;
use glommio::timer::sleep;
use serde_json::json;

use crate::{
    client::{Client, User},
    clock::Micros,
    report::Report,
    run::on_all_threads,
    tls,
    worker::{Plan, Span, Worker},
};

pub(super) fn run(plan: &Arc<Plan>) -> Result<Report> {
    let outcome = on_all_threads(plan, work)?;
    let half = plan.options.seconds / 2.0;
    let per_second = |count: u64| (count as f64 / half).round();
    let handshakes = json!({
        "full": per_second(outcome.tally.handshakes_full),
        "resumed": per_second(outcome.tally.handshakes_resumed),
    });
    Ok(Report::new(&plan.options, outcome).with("handshakes_per_second", handshakes))
}

async fn work(worker: Rc<Worker>) -> Result<()> {
    let users: Vec<User> = worker.share(worker.plan.options.connections).map(|index| worker.plan.user(index)).collect();
    // One login before the time counts: a server that can't be logged in to is an error, not a slow one.
    if let Some(user) = users.first() {
        Client::open(&worker, user).await?.close().await?;
    }
    let span = worker.wait_for_start().await?;
    super::join_all(users.into_iter().map(|user| come_and_go(worker.clone(), user, span))).await;
    Ok(())
}

async fn come_and_go(worker: Rc<Worker>, user: User, span: Span) {
    let half_us = span.start_us + (span.end_us - span.start_us) / 2;
    // Its own tickets, as a device has: a store shared by many holds too few.
    let resuming = Arc::new(tls::with_resumption(&worker.plan.tls));
    for (may_resume, tls, until_us) in [(false, &worker.plan.tls, half_us), (true, &resuming, span.end_us)] {
        while worker.plan.clock.now_us() < until_us {
            if let Err(error) = log_in_once(&worker, &user, tls.clone(), may_resume, until_us).await {
                worker.tally.borrow_mut().findings.error(|| format!("{error:#}"));
                sleep(Duration::from_millis(10)).await; // a server that refuses is not to be hammered
            }
        }
    }
}

async fn log_in_once(
    worker: &Worker,
    user: &User,
    tls: Arc<rustls::ClientConfig>,
    may_resume: bool,
    until_us: Micros,
) -> Result<()> {
    let start_us = worker.plan.clock.now_us();
    worker.tally.borrow_mut().sent += 1;
    let client = Client::open_with(worker, user, tls).await?;
    let now_us = worker.plan.clock.now_us();
    {
        let mut tally = worker.tally.borrow_mut();
        tally.ack(start_us, now_us, until_us);
        let is_in_time = u64::from(now_us <= until_us);
        // The first of those that are to resume is a full one, and counts as neither.
        match (may_resume, client.is_resumed()) {
            (true, true) => tally.handshakes_resumed += is_in_time,
            (true, false) => {}
            (false, _) => tally.handshakes_full += is_in_time,
        }
    }
    client.close().await
}
