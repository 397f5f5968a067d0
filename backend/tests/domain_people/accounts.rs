//! Profiles, and what takes several transactions: telling friends, deleting accounts (PROF-01 to PROF-05, ACC-03).

use super::*;

#[test]
fn prof_01_prof_03_prof_04_a_profile_is_set_field_by_field_and_read_in_part() {
    let service =
        Service::start(Settings { profile_custom_fields: names(&["Tag_Profile_Custom_A"]), ..Settings::default() });
    let custom = |name: &str, value: &'static [u8]| [(name.to_owned(), Bytes::from_static(value))].into();
    let set = Profile {
        nick: Some("Anna".into()),
        level: Some(3),
        custom: custom("Tag_Profile_Custom_A", b"1"),
        ..Profile::default()
    };
    service.set("anna", set.clone()).unwrap();
    let told = Profile { user: "anna".into(), ..set.clone() };
    assert_eq!(service.told(), [("anna".to_owned(), What::Profile(told.clone()))]);
    service.set("anna", set).unwrap();
    assert!(service.told().is_empty(), "as it is already");
    service.set("anna", Profile { nick: Some(String::new()), ..Profile::default() }).unwrap();
    assert_eq!(service.profile("anna"), Some(Profile { nick: Some(String::new()), ..told }));
    assert_eq!(service.profile("nobody"), None);
    assert_eq!(service.profile("ben"), Some(Profile { user: "ben".into(), ..Profile::default() }));
    let fields = ProfileFields { fields: vec![12], custom: vec![] };
    let chosen = profile::profiles(&service.store, APP, users(&["anna"]), Chosen::of(&fields).unwrap());
    assert_eq!(block_on(chosen), Ok(vec![Some(Profile { user: "anna".into(), level: Some(3), ..Profile::default() })]));
    let undeclared = Profile { custom: custom("Tag_Profile_Custom_B", b"1"), ..Profile::default() };
    assert_eq!(service.set("anna", undeclared), Err(Error::Profile(Invalid::Unknown)));
    let forbid = Profile { requests_forbidden: Some(true), ..Profile::default() };
    assert_eq!(service.set("anna", forbid.clone()), Err(Error::Profile(Invalid::ReadOnly)));
    service.by_admin("anna", Kind::Profile(ProfileChange::Set(Box::new(forbid)))).unwrap();
    assert_eq!(service.add("anna", &["ben", "cleo"], false), [Err(Refusal::Forbidden); 2]);
    assert_eq!(service.add("ben", &["anna"], true), [DONE], "others may ask");
    let nobody = Kind::Profile(ProfileChange::Set(Box::default()));
    assert_eq!(service.by_admin("nobody", nobody), Err(Error::UserInvalid));
}

#[test]
fn prof_05_everybody_who_has_the_user_as_a_friend_is_told_some_at_a_time() {
    let service = Service::start(Settings::default());
    let followers = with_followers(&service, "anna", 230);
    let before = *service.parts.lock().unwrap();
    assert_eq!(service.set("anna", Profile { nick: Some("A".into()), ..Profile::default() }), Ok(Answer::Done));
    assert_eq!(*service.parts.lock().unwrap() - before, 4, "the user, and three times some of the others");
    let told = Profile { user: "anna".into(), nick: Some("A".into()), ..Profile::default() };
    let everybody = ["anna".to_owned()].into_iter().chain(followers);
    let expected: Vec<_> = everybody.map(|name| (name, What::Profile(told.clone()))).collect();
    assert_eq!(service.told(), expected);
    assert_eq!(block_on(unfinished::acts(&service.store)).unwrap().len(), 0);
    // What a process has left behind that died in between: the rest is told, as the profile is now.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Unfinished {
        #[prost(bytes = "bytes", tag = "1")]
        fields: Bytes,
        #[prost(uint64, tag = "2")]
        round: u64,
        #[prost(string, tag = "3")]
        after: String,
    }
    let fields = ProfileFields { fields: vec![2], custom: vec![] }.encode_to_vec().into();
    let left = Unfinished { fields, round: 9, after: "f099".into() }.encode_to_vec();
    let put = async move |tx: &Tx| -> Result<(), StoreError> {
        tx.set(keys::unfinished(APP, &user("anna")), left.clone());
        Ok(())
    };
    block_on(service.store.run(Lane::Write, "leave", put)).unwrap();
    for act in block_on(unfinished::acts(&service.store)).unwrap() {
        service.act(act).unwrap();
    }
    assert_eq!(service.told(), expected[101..]);
    assert_eq!(block_on(unfinished::acts(&service.store)).unwrap().len(), 0);
}

#[test]
fn acc_03_a_deleted_account_is_gone_for_everybody_and_begins_anew() {
    let service = Service::start(Settings::default());
    let followers = with_followers(&service, "anna", 130);
    service.befriend("anna", "ben");
    service.allow("cleo", AllowType::NeedConfirm);
    assert_eq!(service.add("anna", &["cleo"], false), [ASKED]);
    service.blacklist("anna", &["dan"]).unwrap();
    service.set("anna", Profile { nick: Some("A".into()), ..Profile::default() }).unwrap();
    block_on(mute::set(&service.store, &service.clock, APP, &user("anna"), Some(0), Some(mute::FOR_EVER_S))).unwrap();
    // An element with a text.
    let body = Bytes::from_static(b"\x0a\x05\x0a\x03\x0a\x01a");
    let message = |from: &str, to: &str, id: &'static [u8]| {
        Act::Send(NewMessage::new(APP, user(from), user(to), Bytes::from_static(id), body.clone()))
    };
    service.act(message("ben", "anna", b"1")).unwrap();
    service.act(message("anna", "ben", b"2")).unwrap();
    service.told();
    let login = |issued_s: u64| {
        let usersig = usersig::sign(APP, SECRET, "anna", issued_s, 1_000_000);
        block_on(account::login(&service.store, &service.clock, false, APP, &user("anna"), usersig))
    };
    let now_s = service.clock.unix_ms() / 1000;
    login(now_s).unwrap();
    assert_eq!(service.change("anna", Kind::Erase(Erase::Account)), Err(Error::NotAllowed), "not by the user");
    assert_eq!(service.by_admin("anna", Kind::Erase(Erase::Account)), Ok(Answer::Done));
    let told = service.told();
    let by_user = friends_told(&told);
    for name in followers.iter().map(String::as_str).chain(["ben"]) {
        assert_eq!(by_user[name], (vec![], names(&["anna"])), "{name}");
    }
    assert!(service.requests("cleo", Direction::Incoming).is_empty());
    assert_eq!(block_on(account::exist(&service.store, APP, users(&["anna", "ben"]))), Ok(vec![false, true]));
    assert_eq!(service.profile("anna"), None);
    assert_eq!(service.relation("ben", "anna"), None);
    assert_eq!(service.act(message("ben", "anna", b"3")), Err(Error::UserInvalid));
    assert_eq!(service.add("ben", &["anna"], false), [Err(Refusal::UserUnknown)]);
    assert_eq!(service.by_admin("anna", Kind::Erase(Erase::Account)), Err(Error::UserInvalid), "deleted already");
    assert_eq!(login(now_s), Err(usersig::Invalid::Invalidated.into()));
    assert_eq!(
        block_on(account::invalidate_usersigs(&service.store, &service.clock, APP, &user("anna"))),
        Err(Error::UserInvalid)
    );
    login(service.clock.unix_ms() / 1000 + 100).unwrap();
    assert_eq!(service.profile("anna"), Some(Profile { user: "anna".into(), ..Profile::default() }), "empty");
    assert!(service.all_friends("anna").is_empty());
    let store = &service.store;
    assert_eq!(block_on(mute::get(store, &service.clock, APP, &user("anna"))), Ok(Mute::default()));
    let log = block_on(sync::events(store, APP, &user("anna"), From::Cursor(Versionstamp::ZERO, Bytes::new()), PAGE))
        .unwrap();
    assert!(log.events.is_empty() && log.start_over);
    let list = block_on(conversations::list(store, APP, &user("anna"), None, None, PAGE)).unwrap();
    assert!(list.entries.is_empty());
    let query = HistoryQuery { start: Start::End, forward: false, limit: PAGE };
    assert!(
        block_on(history::page(store, APP, &user("anna"), &user("ben").into(), query)).unwrap().messages.is_empty()
    );
    assert_eq!(
        block_on(history::page(store, APP, &user("ben"), &user("anna").into(), query)).unwrap().messages.len(),
        2
    );
    service.act(message("ben", "anna", b"3")).unwrap();
    let entry = block_on(conversations::list(store, APP, &user("anna"), None, None, PAGE)).unwrap().entries.remove(0);
    assert_eq!(entry.unread, 1);
    service.act(message("dan", "anna", b"1")).expect("the blacklist was the old account's");
}

#[test]
fn acc_03_nobody_logs_in_while_what_the_account_left_is_being_removed() {
    let service = Service::start(Settings::default());
    service.befriend("anna", "ben");
    // As a process leaves it that died behind the first transaction of the deletion.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Record {
        #[prost(bool, tag = "3")]
        deleted: bool,
        #[prost(bool, tag = "4")]
        erase: bool,
    }
    let put = async move |tx: &Tx| -> Result<(), StoreError> {
        tx.set(keys::account(APP, &user("anna")), Record { deleted: true, erase: false }.encode_to_vec());
        tx.set(keys::unfinished(APP, &user("anna")), Record { deleted: false, erase: true }.encode_to_vec());
        Ok(())
    };
    block_on(service.store.run(Lane::Write, "leave", put)).unwrap();
    let login = || {
        let usersig = usersig::sign(APP, SECRET, "anna", service.clock.unix_ms() / 1000, 1_000);
        block_on(account::login(&service.store, &service.clock, false, APP, &user("anna"), usersig))
    };
    assert_eq!(login(), Err(Error::Store(StoreError::Busy)));
    for act in block_on(unfinished::acts(&service.store)).unwrap() {
        service.act(act).unwrap();
    }
    assert_eq!(service.relation("ben", "anna"), None);
    login().unwrap();
    assert_eq!(service.relation("ben", "anna"), Some(Relation::None));
}
