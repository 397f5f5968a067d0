//! `sync` and `reconnect`: devices come and go by their timetables while messages are sent to their users.
//! The two differ in the timetable alone. At the end everything is read back.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use anyhow::Result;
use protocol::message::Platform;
use serde_json::json;

use super::{
    device::{Device, RECIPIENT},
    feeder::{FLOW, Feeder, Partner},
    readback::{self, Book},
    talker::SharedConversation,
};
use crate::{
    client::{Client, User},
    options::{ReconnectOptions, Scenario, SyncOptions},
    pace::Pace,
    report::Report,
    run::{Outcome, on_all_threads},
    timetable, tls,
    worker::{Plan, Worker},
};

pub(super) fn run(plan: &Arc<Plan>) -> Result<Report> {
    let outcome = on_all_threads(plan, work)?;
    Ok(report(plan, outcome))
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cast {
    users: u32,
    /// Devices of each user.
    devices: u32,
    /// Each sends to every so manieth user; the numbers of theirs follow those of the users.
    senders: u32,
    /// Devices come back as new ones.
    forgets: bool,
    /// Devices come back with the session tickets they were given.
    resumes: bool,
}

impl Cast {
    fn of(scenario: Scenario, connections: u32) -> Cast {
        let (devices, senders, forgets, resumes) = match scenario {
            Scenario::Sync(SyncOptions { devices, senders, fresh, .. }) => (devices, senders, fresh, true),
            Scenario::Reconnect(ReconnectOptions { senders, full_handshakes, .. }) => {
                (1, senders, false, !full_handshakes)
            }
            _ => (1, 1, false, false),
        };
        let users = connections / devices;
        Cast { users, devices, senders: senders.min(users), forgets, resumes }
    }

    /// The users that a sender sends to.
    fn users_of(self, sender: u32) -> impl Iterator<Item = u32> {
        (sender..self.users).step_by(self.senders as usize)
    }
}

async fn work(worker: Rc<Worker>) -> Result<()> {
    let options = &worker.plan.options;
    let cast = Cast::of(options.scenario, options.connections);
    let groups = worker.set_up(worker.share(cast.senders), |sender| open_group(&worker, cast, sender)).await?;
    let span = worker.wait_for_start().await?;

    let mut books = Vec::new();
    let mut tasks = Vec::new();
    for (sender, group) in groups {
        let pace = Pace::new(options.rate, span.start_us, cast.senders, sender);
        books.extend(group.books);
        tasks.push(glommio::spawn_local(group.feeder.run(pace, span)));
        for (device, client, number) in group.devices {
            let absences = timetable::absences(options, worker.plan.seed, number, span);
            tasks.push(glommio::spawn_local(device.run(client, absences, span)));
        }
    }
    for task in tasks {
        task.await;
    }
    readback::read_back(&worker, &books, true).await;
    Ok(())
}

/// A sender and those it sends to.
struct Group {
    feeder: Feeder,
    /// Connected devices, each with its number among all of them.
    devices: Vec<(Device, Client, u32)>,
    books: Vec<Book>,
}

/// Opens all connections; the recipients exist before anything is sent.
async fn open_group(worker: &Rc<Worker>, cast: Cast, sender: u32) -> Result<(u32, Group)> {
    let plan = &worker.plan;
    let sender_number = cast.users + sender;
    let (mut partners, mut devices, mut books) = (Vec::new(), Vec::new(), Vec::new());
    for number in cast.users_of(sender) {
        let conversation: SharedConversation = Rc::new(RefCell::default());
        let name = plan.user_name(number);
        for index in 0..cast.devices {
            let tls = if cast.resumes { Arc::new(tls::with_resumption(&plan.tls)) } else { plan.tls.clone() };
            let user = on_device(plan.user(number), index);
            let mut device = Device::new(worker, number, user, tls, cast.forgets, conversation.clone());
            let client = device.come().await?;
            worker.tally.borrow_mut().connected += 1;
            devices.push((device, client, number * cast.devices + index));
        }
        let names = [plan.user_name(sender_number), name.clone()];
        let numbers = [FLOW | number, number];
        books.push(Book { conversation: conversation.clone(), numbers, names, readers: &[RECIPIENT] });
        partners.push(Partner { number, name, conversation });
    }
    let feeder = Feeder::open(worker, sender_number, partners).await?;
    Ok((sender, Group { feeder, devices, books }))
}

/// A user's devices are on platforms that may be logged in side by side in every policy but the single one.
fn on_device(user: User, index: u32) -> User {
    match index {
        0 => user,
        _ => User { platform: Platform::Web, device: "loadtest-web", ..user },
    }
}

fn report(plan: &Plan, outcome: Outcome) -> Report {
    let tally = &outcome.tally;
    let per_second = |events: u64, seconds: f64| (events as f64 / seconds).round();
    let catch_up = json!({
        "times": tally.catch_up_us.len(),
        "events": tally.caught_up_events,
        "events_per_second": per_second(tally.caught_up_events_in_time, plan.options.seconds),
        "device_events_per_second": per_second(tally.caught_up_events, (tally.catching_up_us as f64 / 1e6).max(1e-6)),
    });
    let (catch_up_us, return_us) = (tally.catch_up_us.clone(), tally.return_us.clone());
    let (returned, retries) = (tally.return_us.len(), tally.retries);
    let (unknown, unsent, unverified) = (tally.unknown, tally.unsent, tally.unverified);
    Report::new(&plan.options, outcome)
        .with("catch_up", catch_up)
        .with_latencies("catch_up_ms", &catch_up_us)
        .with("returned", returned)
        .with_latencies("return_ms", &return_us)
        .with("retries", retries)
        .with("unknown", unknown)
        .with("unsent", unsent)
        .with("unverified", unverified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use clap::Parser;

    fn cast(line: &str) -> Cast {
        let options = Options::parse_from(line.split(' '));
        Cast::of(options.scenario, options.connections)
    }

    #[test]
    fn every_user_has_one_sender() {
        let cast = cast("loadtest sync --devices 2 --connections 34 --senders 6");
        assert_eq!((cast.users, cast.devices, cast.senders), (17, 2, 6));
        let mut users: Vec<u32> = (0..cast.senders).flat_map(|sender| cast.users_of(sender)).collect();
        users.sort_unstable();
        assert_eq!(users, (0..17).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_sends_to_nobody() {
        assert_eq!(cast("loadtest reconnect --connections 3 --senders 10").senders, 3);
    }
}
