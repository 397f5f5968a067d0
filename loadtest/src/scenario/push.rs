//! `push`: something is told to all of many accounts by one call, in the middle of the measured time. Some are
//! online and send to each other, as in `c2c`; of the others some log in afterwards. Each must be told once.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Result, bail};
use bytes::Bytes;
use glommio::timer::sleep;
use protocol::{
    command::Command,
    connection::ClientEvent,
    message::{Event, History, HistoryReply, event::What},
};
use serde_json::json;

use super::{c2c, import::import};
use crate::{
    client::{Client, PATIENCE_US},
    http::Api,
    options::{Options, PushOptions},
    report::Report,
    run::on_all_threads,
    worker::{Plan, Worker},
};

/// For how long it waits for those who are not online, in seconds.
const LIFE_S: u32 = 3_600;

pub(super) fn run(plan: &Arc<Plan>, options: PushOptions) -> Result<Report> {
    let (runtime, api) = Api::of(plan)?;
    let outcome = on_all_threads(plan, move |worker| work(worker, api.clone(), options))?;
    drop(runtime);
    let tally = &outcome.tally;
    let push = json!({
        "accounts": options.accounts,
        "answered_ms": tally.push_answer_us.map(|answer_us| answer_us as f64 / 1e3),
        "told_online": tally.told_us.len(),
        "told_later": tally.return_us.len(),
    });
    let (told_us, later_us, beside_us) = (tally.told_us.clone(), tally.return_us.clone(), tally.beside_push_us.clone());
    let (unknown, unsent, unverified) = (tally.unknown, tally.unsent, tally.unverified);
    Ok(Report::new(&plan.options, outcome)
        .with("push", push)
        .with_latencies("told_ms", &told_us)
        .with_latencies("told_later_ms", &later_us)
        .with_latencies("ack_beside_ms", &beside_us)
        .with("unknown", unknown)
        .with("unsent", unsent)
        .with("unverified", unverified))
}

async fn work(worker: Rc<Worker>, api: Api, options: PushOptions) -> Result<()> {
    import(&worker, &api, options.accounts).await?;
    let push = worker.has(0).then(|| glommio::spawn_local(push(worker.clone(), api)));
    c2c::work(worker.clone(), false).await?;
    if let Some(push) = push {
        push.await;
    }
    let online = worker.plan.options.connections;
    let absent = options.accounts - online;
    let later = options.later.min(absent);
    let at = |index: u32| online + (u64::from(index) * u64::from(absent) / u64::from(later)) as u32;
    worker.set_up(worker.share(later).map(at), |user| look_later(&worker, user)).await?;
    Ok(())
}

/// Makes the call once a third of the measured time is over.
async fn push(worker: Rc<Worker>, api: Api) {
    let (plan, clock) = (&worker.plan, worker.plan.clock);
    loop {
        let start_us = plan.board.start_us.load(Relaxed);
        if start_us > 0 && clock.now_us() >= start_us + plan.measured_us() / 3 {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    let elements = json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": "to all" } }]);
    let body = json!({ "MsgRandom": plan.run, "MsgLifeTime": LIFE_S, "MsgBody": elements });
    let pushed_us = clock.now_us();
    plan.board.pushed_us.store(pushed_us, Relaxed);
    let answer = api.call("all_member_push/im_push", body).await;
    let mut tally = worker.tally.borrow_mut();
    match answer {
        Ok(_) => tally.push_answer_us = Some(clock.now_us() - pushed_us),
        Err(error) => tally.findings.error(|| format!("{error:#}")),
    }
}

/// Logs in as a user who was not there. What can't be found out counts as unverified.
async fn look_later(worker: &Rc<Worker>, user: u32) -> Result<()> {
    if let Err(error) = try_to_look(worker, user).await {
        let mut tally = worker.tally.borrow_mut();
        tally.unverified += 1;
        tally.findings.error(|| format!("user {user}, later: {error:#}"));
    }
    Ok(())
}

async fn try_to_look(worker: &Worker, user: u32) -> Result<()> {
    let (plan, clock) = (&worker.plan, worker.plan.clock);
    let user = plan.user(user);
    let start_us = clock.now_us();
    let mut client = Client::open(worker, &user).await?;
    wait_to_be_told(plan, &mut client).await?;
    worker.tally.borrow_mut().return_us.saturating_record(clock.now_us() - start_us);
    let history = History { user: Options::ADMINISTRATOR.into(), forward: true, ..History::default() };
    let told: HistoryReply = client.call(Command::History, &history).await?;
    worker.tally.borrow_mut().findings.told(&user.name, told.messages.len() as u64);
    client.close().await
}

/// Reads the log and takes what is pushed, until the message has come.
async fn wait_to_be_told(plan: &Plan, client: &mut Client) -> Result<()> {
    let is_push = |event: &Event| matches!(&event.what, Some(What::Message(message)) if plan.is_push(message));
    let mut is_told = false;
    client.sync(Bytes::new(), |page| is_told |= page.events.iter().any(is_push)).await?;
    let deadline_us = plan.clock.now_us() + PATIENCE_US;
    loop {
        // Some may have come with the answer.
        while let Some(event) = client.next_event()? {
            match event {
                ClientEvent::Event(push) => is_told |= push.event.as_ref().is_some_and(is_push),
                ClientEvent::Behind => bail!("a single message was too much to push"),
                _ => {}
            }
        }
        if is_told {
            return Ok(());
        }
        if client.turn(deadline_us).await? >= deadline_us {
            bail!("it was not told in time");
        }
    }
}
