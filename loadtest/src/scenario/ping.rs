//! `ping`: heartbeats through TLS. No store, no dispatch to speak of: the ceiling for everything else.

use std::{collections::VecDeque, rc::Rc, sync::Arc};

use anyhow::{Result, bail};
use protocol::connection::ClientEvent;

use crate::{
    client::{Client, PATIENCE_US},
    clock::Micros,
    pace::Pace,
    report::Report,
    run::on_all_threads,
    worker::{Plan, Span, Worker},
};

pub(super) fn run(plan: &Arc<Plan>) -> Result<Report> {
    Ok(Report::new(&plan.options, on_all_threads(plan, work)?))
}

async fn work(worker: Rc<Worker>) -> Result<()> {
    let connections = worker.plan.options.connections;
    let pingers = worker.set_up(worker.share(connections), |index| Pinger::open(&worker, index)).await?;
    let span = worker.wait_for_start().await?;
    super::join_all(pingers.into_iter().map(|pinger| pinger.run(span))).await;
    Ok(())
}

struct Pinger {
    worker: Rc<Worker>,
    index: u32,
    client: Client,
    /// When the pings under way were due: pongs come in order.
    under_way_us: VecDeque<Micros>,
    count: u64,
}

impl Pinger {
    async fn open(worker: &Rc<Worker>, index: u32) -> Result<Pinger> {
        let client = Client::open(worker, &worker.plan.user(index)).await?;
        worker.tally.borrow_mut().connected += 1;
        Ok(Pinger { worker: worker.clone(), index, client, under_way_us: VecDeque::new(), count: 0 })
    }

    async fn run(mut self, span: Span) {
        if let Err(error) = self.ping(span).await {
            self.worker.tally.borrow_mut().findings.error(|| format!("connection {}: {error:#}", self.index));
        }
        _ = self.client.close().await;
    }

    async fn ping(&mut self, span: Span) -> Result<()> {
        let options = &self.worker.plan.options;
        let pace = Pace::new(options.rate, span.start_us, options.connections, self.index);
        let window = options.window as usize;
        let mut now_us = self.worker.plan.clock.now_us();
        while now_us < span.end_us || !self.under_way_us.is_empty() {
            while now_us < span.end_us && self.under_way_us.len() < window {
                let Some(due_us) = pace.due_us(self.count, now_us) else { break };
                self.count += 1;
                self.under_way_us.push_back(due_us);
                self.client.ping(now_us);
                self.worker.tally.borrow_mut().sent += 1;
            }
            let is_full = now_us >= span.end_us || self.under_way_us.len() >= window;
            let deadline_us = span.end_us + PATIENCE_US;
            let wake_us = if is_full { deadline_us } else { pace.wake_us(self.count).min(deadline_us) };
            now_us = self.client.turn(wake_us).await?;
            self.take_pongs(now_us, span.end_us)?;
            if now_us >= deadline_us {
                bail!("{} pings were never answered", self.under_way_us.len());
            }
        }
        Ok(())
    }

    fn take_pongs(&mut self, now_us: Micros, end_us: Micros) -> Result<()> {
        let mut tally = self.worker.tally.borrow_mut();
        while let Some(event) = self.client.next_event()? {
            if !matches!(event, ClientEvent::Pong(_)) {
                continue;
            }
            if let Some(due_us) = self.under_way_us.pop_front() {
                tally.ack(due_us, now_us, end_us);
            }
        }
        Ok(())
    }
}
