use backend::domain::{
    rate::SendRate,
    settings::{LoginPolicy, PlatformName},
};
use protocol::message::Platform::{Android, Iphone, Linux, Unknown, Web, Windows};

use super::*;
/// A table and what is asked of it, for one user with readable devices.
struct Fixture {
    table: OnlineTable,
    settings: Settings,
    sessions_max: usize,
    next: u64,
}

fn anna() -> UserKey {
    (1, UserId::new("anna").unwrap())
}

fn at(connection: u64) -> Address {
    Address { node: HERE, core: 0, connection }
}

impl Fixture {
    fn new(settings: Settings) -> Self {
        Fixture { table: OnlineTable::new(0, 1, 0), settings, sessions_max: 100, next: 1 }
    }

    /// As many devices as one likes.
    fn open() -> Self {
        let mut settings = Settings { login_policy: LoginPolicy::Multi, ..Settings::default() };
        settings.instances.insert(PlatformName::Android, 100);
        settings.instances.insert(PlatformName::Linux, 100);
        Self::new(settings)
    }

    fn try_login(&mut self, key: UserKey, platform: Platform, issued_s: u64) -> Result<(Address, Admitted), ErrorCode> {
        let address = at(self.next);
        self.next += 1;
        let new = NewSession { address, platform, device: "", background: false, issued_s, since_ms: self.next };
        Ok((address, self.table.insert(key, &new, &self.settings, self.sessions_max)?))
    }

    fn login(&mut self, platform: Platform) -> (Address, Admitted) {
        self.try_login(anna(), platform, 0).unwrap()
    }

    fn addresses(&self) -> Vec<Address> {
        self.table.addresses(anna().0, &anna().1).collect()
    }

    fn numbers(&self) -> Vec<u64> {
        self.table.devices(&anna(), at(0)).iter().map(|device| device.session).collect()
    }

    /// State, status, and platforms with their states.
    fn presence(&self) -> (OnlineState, String, Vec<(Platform, OnlineState)>) {
        let presence = self.table.presence(&anna());
        assert_eq!(presence.user, "anna");
        let platforms = presence.platforms.iter().map(|it| (it.platform(), it.state())).collect();
        (presence.state(), presence.status, platforms)
    }
}

#[test]
fn sessions_come_and_go_apart_by_application() {
    let mut f = Fixture::open();
    let other = (2, anna().1);
    let (one, _) = f.login(Android);
    let (two, _) = f.login(Android);
    let (elsewhere, _) = f.try_login(other.clone(), Android, 0).unwrap();
    assert_eq!(f.addresses(), [one, two]);
    assert!(!f.table.remove(&other, one, 0));
    assert!(f.table.remove(&anna(), one, 0));
    assert!(!f.table.remove(&anna(), one, 0));
    assert_eq!(f.addresses(), [two]);
    assert!(f.table.remove(&anna(), two, 0));
    assert_eq!(f.addresses(), []);
    assert!(f.table.remove(&other, elsewhere, 0));
    assert!(f.table.users.is_empty() && f.table.kept.is_empty(), "nothing is left behind");
}

#[test]
fn login_05_what_the_policy_ends_leaves_the_table_at_once() {
    let mut f = Fixture::new(Settings::default());
    let (phone, _) = f.login(Android);
    let (web, admitted) = f.login(Web);
    assert_eq!(admitted.signed_out, []);
    let (desktop, admitted) = f.login(Windows);
    assert_eq!(admitted.signed_out, [(phone, Android)]);
    assert_eq!((admitted.by.platform(), admitted.by.own), (Windows, false));
    assert_eq!(f.addresses(), [web, desktop]);
    let (web_again, admitted) = f.login(Web);
    assert_eq!(admitted.signed_out, [(web, Web)]);
    assert_eq!(f.addresses(), [desktop, web_again]);
    assert!(!f.table.remove(&anna(), phone, 0), "it comes to say goodbye");
}

#[test]
fn over_the_cap_a_login_is_refused_and_changes_nothing() {
    let mut f = Fixture::open();
    f.sessions_max = 2;
    f.settings.instances.insert(PlatformName::Iphone, 1);
    let (one, _) = f.login(Iphone);
    let (two, _) = f.login(Android);
    assert_eq!(f.try_login(anna(), Android, 0).err(), Some(ErrorCode::TOO_MANY_SESSIONS));
    assert_eq!(f.addresses(), [one, two]);
    let (three, admitted) = f.login(Iphone);
    assert_eq!(admitted.signed_out, [(one, Iphone)], "who makes room for itself fits in");
    assert_eq!(f.addresses(), [two, three]);
}

#[test]
fn session_numbers_are_unique_among_cores() {
    let mut numbers = Vec::new();
    for core in 0..3 {
        let mut f = Fixture { table: OnlineTable::new(core, 3, 0), ..Fixture::open() };
        for _ in 0..4 {
            f.login(Android);
        }
        numbers.extend(f.numbers());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=12).collect::<Vec<u64>>());
}

#[test]
fn devices_are_listed_and_the_one_that_asks_is_marked() {
    let mut f = Fixture::open();
    f.login(Android);
    let (own, _) = f.login(Unknown);
    let devices = f.table.devices(&anna(), own);
    let seen: Vec<_> = devices.iter().map(|device| (device.platform(), device.own, device.since_ms)).collect();
    assert_eq!(seen, [(Android, false, 2), (Linux, true, 3)]);
    assert!(f.table.devices(&(2, anna().1), own).is_empty());
}

#[test]
fn a_device_signs_out_others_chosen_ones_or_all() {
    let mut f = Fixture::open();
    let [a, b, c] = [(); 3].map(|()| f.login(Android).0);
    let numbers = f.numbers();
    let removed = f.table.sign_out(&anna(), Some(a), &Which::Chosen(vec![numbers[1], 4711]), 0);
    assert_eq!((removed.others, removed.own, removed.by.session), (vec![b], None, numbers[0]));
    let removed = f.table.sign_out(&anna(), Some(b), &Which::Others, 0);
    assert_eq!(removed, Removed::default(), "who is out has no say");
    assert_eq!(f.addresses(), [a, c]);
    let removed = f.table.sign_out(&anna(), Some(c), &Which::Chosen(vec![numbers[2]]), 0);
    assert_eq!((removed.others, removed.own.map(|own| (own.session, own.own))), (vec![], Some((numbers[2], true))));
    let [d, e] = [(); 2].map(|()| f.login(Android).0);
    assert_eq!(f.table.sign_out(&anna(), Some(d), &Which::Others, 0).others, [a, e]);
    let removed = f.table.sign_out(&anna(), Some(d), &Which::All { usersigs_from_s: 5 }, 0);
    assert!(removed.others.is_empty() && removed.own.is_some());
    assert_eq!(f.addresses(), []);
}

#[test]
fn acc_02_a_login_checked_before_the_invalidation_comes_too_late() {
    let mut f = Fixture::open();
    let (asker, _) = f.try_login(anna(), Android, 10).unwrap();
    f.table.sign_out(&anna(), Some(asker), &Which::All { usersigs_from_s: 20 }, 1_000);
    f.table.sign_out(&anna(), Some(asker), &Which::All { usersigs_from_s: 15 }, 1_000);
    assert_eq!(f.try_login(anna(), Android, 19).err(), Some(ErrorCode::USERSIG_INVALIDATED));
    assert!(f.try_login((1, UserId::new("ben").unwrap()), Android, 19).is_ok());
    let (fresh, _) = f.try_login(anna(), Android, 20).unwrap();
    assert!(f.table.remove(&anna(), fresh, 2_000));
    f.table.prune(1_000 + INVALIDATION_KEPT_MS - 1);
    assert_eq!(f.try_login(anna(), Android, 19).err(), Some(ErrorCode::USERSIG_INVALIDATED), "while one can come");
    f.table.prune(1_000 + INVALIDATION_KEPT_MS);
    assert!(f.table.kept.is_empty() && !f.table.users.contains_key(&anna()));
}

#[test]
fn acc_04_the_state_is_that_of_the_device_in_front() {
    use OnlineState::{Offline, Online, PushOnline};
    let mut f = Fixture::open();
    assert_eq!(f.presence(), (Offline, String::new(), vec![]));
    let (phone, _) = f.login(Android);
    let (other_phone, _) = f.login(Android);
    let (web, _) = f.login(Web);
    let background = |f: &mut Fixture, address, background| {
        f.table.set_presence(&anna(), address, Some(background), None);
        let (state, _, platforms) = f.presence();
        (state, platforms)
    };
    assert_eq!(f.presence().0, Online);
    assert_eq!(background(&mut f, web, true), (Online, vec![(Android, Online), (Web, PushOnline)]));
    assert_eq!(background(&mut f, phone, true).1, [(Android, Online), (Web, PushOnline)]);
    assert_eq!(background(&mut f, other_phone, true), (PushOnline, vec![(Android, PushOnline), (Web, PushOnline)]));
    assert_eq!(background(&mut f, web, false), (Online, vec![(Android, PushOnline), (Web, Online)]));
    f.table.remove(&anna(), web, 0);
    assert_eq!(f.presence().0, PushOnline);
    f.table.remove(&anna(), phone, 0);
    f.table.remove(&anna(), other_phone, 0);
    assert_eq!(f.presence(), (Offline, String::new(), vec![]));
}

#[test]
fn acc_04_a_status_is_the_user_s_and_ends_with_the_last_device() {
    let mut f = Fixture::open();
    let (phone, _) = f.login(Android);
    let (web, _) = f.login(Web);
    let say = |f: &mut Fixture, address, status: &str| {
        f.table.set_presence(&anna(), address, None, Some(status.to_owned()));
        f.presence().1
    };
    assert_eq!(say(&mut f, phone, "lunch"), "lunch");
    assert_eq!(say(&mut f, web, "back"), "back");
    assert_eq!(say(&mut f, at(4711), "forged"), "back", "not one of the user's sessions");
    f.table.remove(&anna(), web, 0);
    assert_eq!(f.presence().1, "back");
    f.table.remove(&anna(), phone, 0);
    f.login(Android);
    assert_eq!(f.presence().1, "");
}

fn rate(per_second: u32, burst: u32) -> SendRate {
    let settings = Settings { sends_per_second: per_second, sends_burst: burst, ..Settings::default() };
    SendRate::of(&settings).unwrap()
}

#[test]
fn what_was_sent_outlives_the_sessions_until_its_debt_is_paid() {
    let mut f = Fixture::open();
    let rate = rate(1, 2);
    let (one, admitted) = f.login(Android);
    let bucket = admitted.send_bucket;
    let (two, admitted) = f.login(Android);
    assert!(Arc::ptr_eq(&bucket, &admitted.send_bucket), "one for all sessions");
    let take = |now_us| bucket.take(rate, now_us);
    assert_eq!((take(0), take(0), take(0)), (Ok(()), Ok(()), Err(1_000)));
    f.table.set_presence(&anna(), two, None, Some("here".into()));
    f.table.remove(&anna(), one, 100);
    f.table.remove(&anna(), two, 100);
    assert_eq!(f.presence(), (OnlineState::Offline, String::new(), vec![]), "nothing but the rate is kept");
    let (three, admitted) = f.login(Android);
    assert_eq!(admitted.send_bucket.take(rate, 100_000), Err(900), "coming back brings no fresh burst");
    f.table.remove(&anna(), three, 200);
    f.table.prune(1_999);
    assert_eq!(f.table.users.len(), 1);
    assert_eq!(take(1_500_000), Ok(()), "sent on a connection that was just closing");
    f.table.prune(2_000);
    assert_eq!(f.table.users.len(), 1, "the debt has grown meanwhile");
    f.table.prune(3_000);
    assert!(f.table.users.is_empty() && f.table.kept.is_empty());
}

#[test]
fn what_is_kept_of_users_who_are_gone_is_bounded() {
    let mut f = Fixture::open();
    let rate = rate(1, 10);
    for index in 0..KEPT_MAX + 50 {
        let key = (1, UserId::new(&format!("user-{index}")).unwrap());
        let (address, admitted) = f.try_login(key.clone(), Android, 0).unwrap();
        admitted.send_bucket.take(rate, 0).unwrap();
        f.table.remove(&key, address, 0);
        f.table.prune(1);
    }
    assert_eq!((f.table.users.len(), f.table.kept.len()), (KEPT_MAX, KEPT_MAX));
    // Coming and going adds nothing.
    for _ in 0..10 {
        let (address, admitted) = f.login(Android);
        _ = admitted.send_bucket.take(rate, 0);
        f.table.remove(&anna(), address, 0);
    }
    assert_eq!(f.table.kept.len(), KEPT_MAX + 1);
    f.table.prune(20_000);
    assert!(f.table.users.is_empty() && f.table.kept.is_empty());
}

/// A session that another node holds.
fn remote(node: NodeIndex, number: u64, since_ms: u64, platform: Platform) -> RemoteSession {
    RemoteSession {
        address: Address { node, core: 0, connection: number },
        number,
        since_ms,
        platform,
        device: String::new(),
        background: false,
        status: String::new(),
    }
}

#[test]
fn login_05_of_a_user_s_sessions_on_several_nodes_the_same_ones_stay() {
    let mut f = Fixture::new(Settings::default());
    let (phone, _) = f.login(Android);
    let later = f.table.put_remote(&anna(), &remote(1, 90, 50, Windows), &f.settings);
    assert_eq!(later.signed_out, [phone], "it logged in later, elsewhere");
    assert_eq!(f.addresses(), []);
    assert_eq!(f.presence().0, OnlineState::Online, "there");
    // The other node will sign out its own one, which is older.
    let (desktop, admitted) = f.login(Windows);
    assert_eq!(admitted.signed_out, [(remote(1, 90, 50, Windows).address, Windows)]);
    let since_ms = f.table.told(&anna())[0].since_ms;
    assert!(since_ms > 50, "behind what was known, whatever the clocks say");
    let earlier = f.table.put_remote(&anna(), &remote(1, 91, since_ms - 1, Windows), &f.settings);
    assert_eq!(earlier.signed_out, [], "that node signs its own out once it hears of this one");
    assert!(f.table.remove(&anna(), remote(1, 91, 0, Windows).address, 0));
    assert_eq!(f.addresses(), [desktop]);
}

#[test]
fn geo_01_sessions_of_a_dead_node_go_together() {
    let mut f = Fixture::open();
    let (here, _) = f.login(Android);
    for (node, number) in [(1, 90), (1, 91), (2, 92)] {
        assert!(f.table.put_remote(&anna(), &remote(node, number, 60, Linux), &f.settings).is_new);
    }
    assert!(!f.table.put_remote(&anna(), &remote(1, 90, 60, Linux), &f.settings).is_new, "told once more");
    assert_eq!(f.numbers().len(), 4);
    assert_eq!(f.addresses(), [here], "events go to those that are here");
    assert_eq!(f.table.remove_node(1, 0), [anna()]);
    assert_eq!(f.numbers().len(), 2);
    assert_eq!(f.table.remove_node(2, 0), [anna()]);
    assert!(f.table.remove(&anna(), here, 0));
    assert!(f.table.users.is_empty(), "nothing is left behind");
}

#[test]
fn acc_04_geo_01_sessions_of_a_node_that_tells_them_anew_stay_until_it_has_told_all() {
    let mut f = Fixture::open();
    for (node, number) in [(1, 90), (1, 91), (2, 92)] {
        f.table.put_remote(&anna(), &remote(node, number, 60, Linux), &f.settings);
    }
    f.table.doubt_node(1);
    assert!(
        !f.table.put_remote(&anna(), &remote(1, 91, 60, Linux), &f.settings).is_new,
        "it has been there all the time"
    );
    assert!(f.table.remove_doubtful(2, 0).is_empty(), "another node's word");
    assert_eq!(f.numbers().len(), 3);
    assert_eq!(f.table.remove_doubtful(1, 0), [anna()]);
    assert_eq!(f.numbers(), [91, 92], "what was not named again is gone");
    assert!(f.table.remove_doubtful(1, 0).is_empty());
}
