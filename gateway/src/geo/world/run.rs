//! The simulation: second by second users log in, race what they are told, stay, ask again, and leave.
//!
//! An access point that has failed takes nobody any more. It keeps those whom it has until they leave, which is harder for
//! who has to see that it is dead; or it drops them, which is harder for those to which they come. One that is over its capacity still takes whoever comes, so that what keeps it from that is
//! routing alone.

use std::{cmp::Reverse, collections::BinaryHeap, net::Ipv4Addr, sync::Arc};

use super::{
    super::{Geo, Located, Now, RoundTrip},
    Event, Outcome, Plan,
    earth::{Dice, Earth},
};

/// How often access points say how they are, in seconds.
pub const REPORT_S: u32 = 2;

/// Access points that a client races.
const RACED: usize = 3;

/// Who has lost its connection comes back within so many seconds (WIRE.md).
const RETURN_S: u64 = 10;

/// Of a hundred clients, so many report nonsense.
const LIARS_PERCENT: u64 = 2;

/// Round trips up to this much longer than the best are as good as the best.
const GOOD: f64 = 1.10;

/// A user that is logged in.
struct Session {
    user: Ipv4Addr,
    point: usize,
    leaves_s: u32,
}

/// A run in progress.
pub struct Run<'a> {
    plan: &'a Plan,
    geo: Arc<Geo<Earth>>,
    dice: Dice,
    second: u32,
    sessions: Vec<Option<Session>>,
    free: Vec<usize>,
    /// When a session next asks or leaves, and which.
    due: BinaryHeap<Reverse<(u32, usize)>>,
    /// When users who have lost their connections come back, who, and when they leave.
    returning: BinaryHeap<Reverse<(u32, Ipv4Addr, u32)>>,
    /// Sessions by access point.
    counts: Vec<u64>,
    alive: Vec<bool>,
    crowd: Option<(&'static str, u32, u32)>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        let dice = Dice::new(plan.seed);
        let earth = Earth::new(&dice, &plan.config.access_points);
        let points = plan.config.access_points.len();
        let geo = Arc::new(Geo::new(plan.config.clone(), earth, [7; 32]));
        let outcome = Outcome { most: vec![0; points], ..Outcome::default() };
        let (sessions, free) = Default::default();
        let (due, returning) = Default::default();
        let (counts, alive) = (vec![0; points], vec![true; points]);
        Run { plan, geo, dice, second: 0, sessions, free, due, returning, counts, alive, crowd: None, outcome }
    }

    /// Runs it to its end.
    pub fn finish(mut self) -> Outcome {
        for second in 0..self.plan.seconds {
            self.second = second;
            self.events();
            if second % REPORT_S == 0 {
                self.report();
            }
            self.ask_and_leave();
            self.come_back();
            for _ in 0..self.plan.logins_per_second {
                let user = self.geo.database.user(&self.dice);
                self.log_in(user);
            }
            if let Some((city, logins, until_s)) = self.crowd.filter(|crowd| second < crowd.2) {
                (0..logins).for_each(|_| self.log_in(self.geo.database.user_in(city, &self.dice)));
                self.crowd = Some((city, logins, until_s));
            }
            self.look();
        }
        self.outcome
    }

    fn events(&mut self) {
        for (at_s, event) in &self.plan.events {
            if *at_s != self.second {
                continue;
            }
            match event {
                Event::Fail(region) => self.fail(region),
                Event::Drop(region) => {
                    self.fail(region);
                    self.drop_users();
                }
                Event::Crowd { city, logins_per_second, seconds } => {
                    self.crowd = Some((city, *logins_per_second, self.second + seconds));
                }
            }
        }
    }

    fn fail(&mut self, region: &str) {
        let points = self.plan.config.access_points.iter().zip(&mut self.alive);
        points.filter(|(point, _)| point.region == region).for_each(|(_, alive)| *alive = false);
    }

    /// All users of access points that have failed lose their connections. Their places are not used again: what was due
    /// of them still is.
    fn drop_users(&mut self) {
        for place in &mut self.sessions {
            let Some(session) = place.take_if(|session| !self.alive[session.point]) else { continue };
            self.counts[session.point] -= 1;
            let back_s = self.second + 1 + self.dice.below(RETURN_S) as u32;
            self.returning.push(Reverse((back_s, session.user, session.leaves_s)));
        }
    }

    /// Who has lost its connection asks again, and logs in.
    fn come_back(&mut self) {
        while let Some(Reverse((back_s, user, leaves_s))) = self.returning.peek().copied() {
            if back_s > self.second {
                return;
            }
            self.returning.pop();
            self.arrive(user, leaves_s.max(self.second + 1));
        }
    }

    /// What leases will do: access points say how many they have, and who has failed says nothing.
    fn report(&self) {
        for ((node, alive), sessions) in self.geo.directory.nodes().iter().zip(&self.alive).zip(&self.counts) {
            node.set_healthy(*alive);
            node.report(*sessions, node.point.capacity);
        }
    }

    fn ask_and_leave(&mut self) {
        while let Some(Reverse((at_s, index))) = self.due.peek().copied().filter(|due| due.0.0 <= self.second) {
            self.due.pop();
            debug_assert!(at_s <= self.second);
            let Some(session) = self.sessions.get_mut(index).and_then(Option::take) else { continue };
            self.counts[session.point] -= 1;
            if session.leaves_s <= self.second {
                self.free.push(index);
                continue;
            }
            let current = session.point;
            let located = self.locate(session.user, Some(current));
            let stays = located.access_points.first().is_some_and(|told| self.index(&told.id) == Some(current));
            let arrived = if stays { None } else { self.race(session.user, &located, Some(current)) };
            if let Some(point) = arrived.filter(|point| *point != current) {
                self.outcome.moves += 1;
                self.judge_move(session.user, current, point, &located);
            }
            let session = Session { point: arrived.unwrap_or(current), ..session };
            self.stay(index, session, located.expires_s);
        }
    }

    fn log_in(&mut self, user: Ipv4Addr) {
        self.arrive(user, self.second + 1 + self.dice.wait(self.plan.stay_s) as u32);
    }

    /// A user asks, races and logs in.
    fn arrive(&mut self, user: Ipv4Addr, leaves_s: u32) {
        let located = self.locate(user, None);
        let Some(point) = self.race(user, &located, None) else {
            self.outcome.lost += 1;
            return;
        };
        if self.second >= self.plan.warm_up_s {
            self.judge(user, point);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.sessions.push(None);
            self.sessions.len() - 1
        });
        self.stay(index, Session { user, point, leaves_s }, located.expires_s);
    }

    fn stay(&mut self, index: usize, session: Session, expires_s: u32) {
        self.counts[session.point] += 1;
        self.due.push(Reverse((session.leaves_s.min(self.second + expires_s), index)));
        self.sessions[index] = Some(session);
    }

    fn locate(&self, user: Ipv4Addr, current: Option<usize>) -> Located {
        let current = current.map_or("", |point| &self.plan.config.access_points[point].id);
        self.geo.locate(user.into(), current, self.dice.bits(), self.now())
    }

    /// Races the first few, and where the user is if that is told, reports, and arrives at the fastest that takes
    /// connections; otherwise the next that does.
    fn race(&self, user: Ipv4Addr, located: &Located, current: Option<usize>) -> Option<usize> {
        let told = self.told(located);
        let is_raced = |(place, point): &(usize, &usize)| *place < RACED || Some(**point) == current;
        let raced = told.iter().enumerate().filter(is_raced).map(|(_, &point)| {
            let measured = self.alive[point].then(|| self.geo.database.measured_ms(user, point, &self.dice));
            (point, measured)
        });
        let raced: Vec<_> = raced.collect();
        if self.plan.reports {
            let is_liar = self.dice.percent(LIARS_PERCENT);
            let round_trips: Vec<_> =
                raced.iter().map(|(point, measured)| self.round_trip(*point, *measured, is_liar)).collect();
            let _ = self.geo.report(&located.token, user.into(), &round_trips, self.now());
        }
        let fastest = raced.iter().filter_map(|(point, measured)| Some((*point, (*measured)?)));
        let fastest = fastest.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(point, _)| point);
        fastest.or_else(|| told.into_iter().skip(RACED).find(|point| self.alive[*point]))
    }

    fn told(&self, located: &Located) -> Vec<usize> {
        located.access_points.iter().filter_map(|told| self.index(&told.id)).collect()
    }

    fn round_trip(&self, point: usize, measured: Option<f64>, is_liar: bool) -> RoundTrip {
        let access_point = self.plan.config.access_points[point].id.clone();
        let ms = match measured {
            _ if is_liar => [1.0, 5_000.0][self.dice.below(2) as usize],
            Some(ms) => ms,
            None => 0.0,
        };
        let failed = measured.is_none() && !is_liar;
        RoundTrip { access_point, connect_ms: ms.round() as u32, tls_ms: (ms + 2.0).round() as u32, failed }
    }

    /// Compares where a user has arrived with the best there was: alive and with room.
    fn judge(&mut self, user: Ipv4Addr, chosen: usize) {
        let rtt_ms = |point| self.geo.database.rtt_ms(user, point);
        let points = self.plan.config.access_points.iter().enumerate();
        let open = points
            .filter(|(index, point)| self.alive[*index] && !point.drained && self.counts[*index] < point.capacity);
        let best_ms = open.map(|(index, _)| rtt_ms(index)).fold(f64::MAX, f64::min);
        self.outcome.logins += 1;
        self.outcome.good += u64::from(rtt_ms(chosen) <= best_ms * GOOD);
        self.outcome.excess_ms.push((rtt_ms(chosen) - best_ms).max(0.0));
    }

    /// Whether a user had done better to stay, where it might have.
    fn judge_move(&mut self, user: Ipv4Addr, from: usize, to: usize, located: &Located) {
        let rtt_ms = |point| self.geo.database.rtt_ms(user, point);
        let is_worse = self.told(located).contains(&from) && rtt_ms(to) > rtt_ms(from) * GOOD;
        self.outcome.worse_moves += u64::from(is_worse);
    }

    /// What is to be seen at the end of a second.
    fn look(&mut self) {
        let points = &self.plan.config.access_points;
        let has_room = |index: usize| self.alive[index] && self.counts[index] < points[index].capacity;
        let room = (0..points.len()).any(has_room);
        let over = (0..points.len()).any(|index| self.counts[index] > points[index].capacity);
        self.outcome.overfull_s += u32::from(room && over);
        for (most, count) in self.outcome.most.iter_mut().zip(&self.counts) {
            *most = (*most).max(*count);
        }
        let on_failed: u64 =
            self.counts.iter().zip(&self.alive).filter(|(_, alive)| !**alive).map(|(count, _)| count).sum();
        if on_failed > 0 {
            self.outcome.last_on_failed_s = self.second;
        }
        self.outcome.sessions = self.counts.iter().sum();
    }

    fn index(&self, id: &str) -> Option<usize> {
        self.plan.config.access_points.iter().position(|point| point.id == id)
    }

    fn now(&self) -> Now {
        Now { unix_s: 1_800_000_000 + u64::from(self.second), monotonic_s: self.second }
    }
}
