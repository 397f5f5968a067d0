//! Applications and their answers (GRP-06, GRP-27).

use super::*;

/// Applications that were told, to whom.
fn applications(told: &[(String, Told)]) -> Vec<(&str, GroupApplicationState)> {
    let of = |(to, told): &'_ (String, Told)| match told {
        Told::Application(application) => Some((to.clone(), application.state())),
        _ => None,
    };
    let found = told.iter().filter_map(|entry| of(entry).map(|(_, state)| (entry.0.as_str(), state)));
    let mut found: Vec<_> = found.collect();
    found.sort_unstable_by_key(|(name, _)| *name);
    found
}

fn everybody(state: GroupApplicationState) -> Vec<(&'static str, GroupApplicationState)> {
    ["admin", "admin2", "owner", "stranger"].map(|name| (name, state)).to_vec()
}

#[test]
fn grp_27_an_application_reaches_who_decides_and_its_answer_them_and_the_applicant() {
    use GroupApplicationState::{Agreed, Open, Refused};
    let service = Service::start();
    for (actor, agree) in
        [("owner", true), ("admin", true), ("app", true), ("owner", false), ("admin", false), ("app", false)]
    {
        let group = service.group(GroupType::Public);
        assert_eq!(service.ask("stranger", join(&group)), APPLIED);
        let told = service.told();
        assert_eq!(applications(&told), everybody(Open));
        let Told::Application(open) = &told[0].1 else { panic!("{told:?}") };
        assert_eq!((open.user.as_str(), open.wording.as_str(), open.by.as_str()), ("stranger", "please", ""));
        assert_eq!(service.ask(actor, answer(&group, "stranger", agree)), Ok(Answer::Done));
        let told = service.told();
        let state = if agree { Agreed } else { Refused };
        assert_eq!(applications(&told), everybody(state), "{actor}");
        let by = if actor == "app" { "administrator" } else { actor };
        let is_answer = |told: &Told| matches!(told, Told::Application(told) if told.by == by && told.text == "because" && told.wording == "please");
        assert_eq!(told.iter().filter(|(_, told)| is_answer(told)).count(), 4);
        let entered = told.iter().filter(|(to, told)| to == "stranger" && matches!(told, Told::Entered(_))).count();
        assert_eq!(entered, usize::from(agree));
        assert_eq!(service.role(&group, "stranger") == GroupRole::Member, agree);
        assert!(service.records().applications.is_empty());
        let once_more = service.ask(actor, answer(&group, "stranger", agree));
        assert_eq!(once_more, refused(Refusal::ApplicationUnknown));
    }
}

#[test]
fn grp_06_grp_27_nobody_else_answers_an_application() {
    let service = Service::start();
    let group = service.group(GroupType::Public);
    assert_eq!(service.ask("stranger", join(&group)), APPLIED);
    for actor in ["member", "stranger", "stranger2"] {
        let answered = service.ask(actor, answer(&group, "stranger", true));
        assert_eq!(answered, refused(Refusal::RightMissing), "{actor}");
    }
    assert_eq!(service.ask("owner", answer(&group, "stranger2", true)), refused(Refusal::ApplicationUnknown));
    assert_eq!(service.role(&group, "stranger"), GroupRole::None);
}

#[test]
fn grp_27_an_application_is_made_again_in_other_words_and_dropped_by_entering_otherwise() {
    use GroupApplicationState::{Dropped, Open, Refused};
    let service = Service::start();
    let group = service.group(GroupType::Public);
    for wording in ["first", "second"] {
        let change = GroupChange::Join { group: group.clone(), wording: wording.into() };
        assert_eq!(service.ask("stranger", change), APPLIED);
        let told = service.told();
        assert_eq!(applications(&told), everybody(Open));
        assert!(told.iter().all(|(_, told)| matches!(told, Told::Application(told) if told.wording == wording)));
    }
    assert_eq!(service.records().applications.len(), 1);
    let again = GroupChange::Join { group: group.clone(), wording: "second".into() };
    assert_eq!(service.ask("stranger", again), APPLIED);
    assert!(service.told().is_empty(), "the same words tell nothing new");
    assert_eq!(outcomes(service.ask("app", invite(&group, &["stranger"]))), [Ok(())]);
    assert_eq!(applications(&service.told()), everybody(Dropped));
    assert!(service.records().applications.is_empty());
    // Whoever is kept out has been answered.
    let group = service.group(GroupType::Public);
    assert_eq!(service.ask("stranger", join(&group)), APPLIED);
    service.told();
    assert_eq!(outcomes(service.ask("owner", ban(&group, &["stranger"], 10))), [Ok(())]);
    assert_eq!(applications(&service.told()), everybody(Refused));
    assert!(service.records().applications.is_empty());
}

#[test]
fn grp_01_grp_27_a_full_group_takes_nobody_and_the_application_stays_open() {
    let service = Service::start();
    let info = GroupUpdate { member_max: Some(6), ..new_group(GroupType::Public).info };
    let group = service.create(NewGroup { info, ..new_group(GroupType::Public) });
    assert_eq!(service.ask("stranger", join(&group)), APPLIED);
    assert_eq!(outcomes(service.ask("app", invite(&group, &["anna", "ben"]))), [Ok(()), Err(Refusal::Full)]);
    assert_eq!(service.ask("owner", answer(&group, "stranger", true)), refused(Refusal::Full));
    assert_eq!(service.ask("stranger2", join(&group)), refused(Refusal::Full));
    assert_eq!(service.records().applications.len(), 1);
    service.ask("anna", leave(&group)).unwrap();
    assert_eq!(service.ask("owner", answer(&group, "stranger", true)), Ok(Answer::Done));
    assert_eq!(service.role(&group, "stranger"), GroupRole::Member);
}
