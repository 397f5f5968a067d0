//! `group` and `room`: many who hear what some of them say. Each is given everything once and in order, in a group
//! by all means, in a live room as far as he keeps up; how long it takes until the last one has a message.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use glommio::timer::sleep;
use protocol::message::GroupType;
use serde_json::json;

use super::member::{self, Member};
use crate::{
    options::{GroupOptions, Options, RoomOptions, Scenario},
    pace::Pace,
    report::Report,
    run::{Outcome, on_all_threads},
    tally::histogram,
    worker::{Plan, Worker},
};

pub(super) fn run(plan: &Arc<Plan>) -> Result<Report> {
    let crowd = Arc::new(Crowd::new(Cast::of(plan.options.scenario)));
    let outcome = on_all_threads(plan, {
        let crowd = crowd.clone();
        move |worker| work(worker, crowd.clone())
    })?;
    Ok(report(plan, crowd.cast, outcome))
}

/// Who takes part. Connections are dealt out to the groups in turn; the first of each group makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cast {
    /// Groups, or one live room.
    groups: u32,
    /// Connections of each.
    members: u32,
    /// Those of each who send: the first ones.
    senders: u32,
    /// Those of each without an account: the last ones.
    guests: u32,
    pub(super) is_room: bool,
    /// Whose connection is lost comes back.
    pub(super) reconnects: bool,
}

impl Cast {
    fn of(scenario: Scenario) -> Cast {
        let none = Cast { groups: 0, members: 0, senders: 0, guests: 0, is_room: false, reconnects: false };
        match scenario {
            Scenario::Group(GroupOptions { groups, members, reconnect: reconnects }) => {
                Cast { groups, members, senders: members, reconnects, ..none }
            }
            Scenario::Room(RoomOptions { members, senders, guests }) => {
                Cast { groups: 1, members, senders, guests, is_room: true, ..none }
            }
            _ => none,
        }
    }

    fn connections(self) -> u32 {
        self.groups * self.members
    }

    fn group_of(self, number: u32) -> u32 {
        number % self.groups
    }

    /// The number of the target for this connection: those of a group are spread over all.
    pub(super) fn target_of(self, number: u32, targets: usize) -> usize {
        (number / self.groups) as usize % targets
    }

    pub(super) fn is_owner(self, number: u32) -> bool {
        number < self.groups
    }

    pub(super) fn is_sender(self, number: u32) -> bool {
        number < self.groups * self.senders
    }

    pub(super) fn is_guest(self, number: u32) -> bool {
        number >= self.groups * (self.members - self.guests)
    }

    pub(super) fn kind(self) -> GroupType {
        // Whoever wants to joins either, and in neither do tips of members take a sequence.
        if self.is_room { GroupType::Avchatroom } else { GroupType::Meeting }
    }

    /// When a sender's messages are due: one after the other, each group in turn.
    pub(super) fn pace(self, options: &Options, start_us: u64, sender: u32) -> Pace {
        Pace::new(options.rate, start_us, self.groups * self.senders, sender)
    }
}

/// A group, as far as its members on all threads know it.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The newest sequence that was acknowledged.
    pub(super) head_seq: AtomicU64,
    /// Those who may still send.
    pub(super) senders: AtomicU32,
}

/// All groups.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) cast: Cast,
    places: Vec<Place>,
    /// Groups that are there.
    pub(super) made: AtomicU32,
}

impl Crowd {
    fn new(cast: Cast) -> Crowd {
        let place = |_| Place { senders: AtomicU32::new(cast.senders), ..Place::default() };
        Crowd { cast, places: (0..cast.groups).map(place).collect(), made: AtomicU32::new(0) }
    }

    /// Where the connection with this number is.
    pub(super) fn place(&self, number: u32) -> &Place {
        &self.places[self.cast.group_of(number) as usize]
    }

    /// The id of that group in this run.
    pub(super) fn group(&self, plan: &Plan, number: u32) -> String {
        format!("load-{:08x}-{}", plan.run, self.cast.group_of(number))
    }

    /// Waits until all groups are there to be joined.
    pub(super) async fn wait_for_groups(&self, plan: &Plan) -> Result<()> {
        while self.made.load(Relaxed) < self.cast.groups {
            if plan.board.failure.get().is_some() {
                bail!("another thread gave up");
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

async fn work(worker: Rc<Worker>, crowd: Arc<Crowd>) -> Result<()> {
    let cast = crowd.cast;
    // Those who make the groups have the lowest numbers, so that nobody waits in front of them.
    let open = |number| Member::open(&worker, crowd.clone(), number);
    let members = worker.set_up(worker.share(cast.connections()), open).await?;
    let span = worker.wait_for_start().await?;
    super::join_all(members.into_iter().map(|member| member.run(span))).await;
    if !cast.is_room {
        let owners = worker.share(cast.groups);
        worker.set_up(owners, |owner| member::read_back(&worker, &crowd, owner)).await?;
    }
    Ok(())
}

fn report(plan: &Plan, cast: Cast, outcome: Outcome) -> Report {
    let start_us = plan.board.start_us.load(Relaxed);
    let mut last_us = histogram();
    let mut to_all = 0u64;
    for (message, given_us) in outcome.tally.spread.complete(cast.members - 1) {
        let due_us = cast.pace(&plan.options, start_us, message.sender).wake_us(message.ordinal.into());
        last_us.saturating_record(given_us.saturating_sub(due_us));
        to_all += 1;
    }
    let crowd =
        json!({ "groups": cast.groups, "members": cast.members, "senders": cast.senders, "guests": cast.guests });
    let (unknown, unsent, unverified) = (outcome.tally.unknown, outcome.tally.unsent, outcome.tally.unverified);
    let (shed, reconnects, return_us) = (outcome.tally.shed, outcome.tally.reconnects, outcome.tally.return_us.clone());
    // All are there, and nothing was sent yet. Connections that were lost would make the others look cheap.
    let are_all_there = outcome.tally.findings.errors == 0;
    let grown =
        outcome.before.zip(outcome.start).map(|(before, start)| start.rss_bytes.saturating_sub(before.rss_bytes));
    let each = grown.filter(|_| are_all_there).map(|bytes| bytes / u64::from(cast.connections()));
    Report::new(&plan.options, outcome)
        .with("crowd", crowd)
        .with("to_all", to_all)
        .with_latencies("last_delivery_ms", &last_us)
        .with("shed", shed)
        .with("unknown", unknown)
        .with("unsent", unsent)
        .with("reconnects", reconnects)
        .with_latencies("return_ms", &return_us)
        .with("unverified", unverified)
        .with_bytes_per_connection(each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn cast(line: &str) -> Cast {
        Cast::of(Options::parse_from(line.split(' ')).with_defaults().scenario)
    }

    #[test]
    fn every_group_has_its_members_and_one_who_makes_it() {
        let cast = cast("loadtest group --groups 3 --members 5");
        let numbers = 0..cast.connections();
        for group in 0..3 {
            let of_group: Vec<u32> = numbers.clone().filter(|number| cast.group_of(*number) == group).collect();
            assert_eq!(of_group.len(), 5);
            assert_eq!(of_group.iter().filter(|number| cast.is_owner(**number)).count(), 1);
            assert!(of_group.iter().all(|number| cast.is_sender(*number) && !cast.is_guest(*number)));
        }
    }

    #[test]
    fn in_a_room_the_first_speak_and_the_last_are_guests() {
        let cast = cast("loadtest room --members 10 --senders 3 --guests 4");
        let count = |is: &dyn Fn(u32) -> bool| (0..cast.connections()).filter(|number| is(*number)).count();
        assert_eq!(count(&|number| cast.is_owner(number)), 1);
        assert_eq!(count(&|number| cast.is_sender(number)), 3);
        assert_eq!(count(&|number| cast.is_guest(number)), 4);
        assert!(!(0..10).any(|number| cast.is_sender(number) && cast.is_guest(number)));
    }
}
