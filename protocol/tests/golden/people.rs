//! The valid vectors of profiles, friends and friend requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{
    ErrorCode,
    command::Command,
    message::{event::What, *},
};

use crate::{
    format::FrameVector,
    frames::{TIME_MS, noted, request},
    messaging::{both, strings},
};

fn custom(name: &str, value: &'static [u8]) -> BTreeMap<String, Bytes> {
    [(name.to_owned(), Bytes::from_static(value))].into()
}

fn profile() -> Profile {
    Profile {
        user: "bob".into(),
        nick: Some("Bob ✓".into()),
        gender: Some(Gender::Male.into()),
        birthday: Some(20_190_419),
        location: Some("Berlin".into()),
        signature: Some("gone fishing".into()),
        allow_type: Some(AllowType::NeedConfirm.into()),
        language: Some(1),
        image_url: Some("https://files.example/bob.png".into()),
        message_settings: Some(1),
        requests_forbidden: Some(true),
        level: Some(7),
        role: Some(300),
        custom: custom("Tag_Profile_Custom_Team", b"blue"),
    }
}

fn fields() -> Option<ProfileFields> {
    Some(ProfileFields { fields: vec![2, 9], custom: strings(&["Tag_Profile_Custom_Team"]) })
}

fn friend() -> Friend {
    Friend {
        user: "bob".into(),
        remark: "Bobby".into(),
        lists: strings(&["close", "work"]),
        source: "Search".into(),
        wording: "it's me".into(),
        added_ms: TIME_MS,
        custom: custom("Tag_SNS_Custom_Since", b"school"),
        profile: Some(Profile { user: "bob".into(), nick: Some("Bob ✓".into()), ..Profile::default() }),
    }
}

fn open_request() -> FriendRequest {
    FriendRequest {
        user: "bob".into(),
        incoming: true,
        wording: "it's me".into(),
        source: "Search".into(),
        time_ms: TIME_MS,
        state: FriendRequestState::Open.into(),
    }
}

pub(crate) fn frames() -> Vec<FrameVector> {
    let groups = [profiles(), asking(), keeping(), reading()];
    groups.into_iter().flatten().collect()
}

fn profiles() -> Vec<FrameVector> {
    let set = SetProfile { profile: Some(Profile { user: String::new(), ..profile() }) };
    let unset = Profile { nick: Some(String::new()), level: Some(0), ..Profile::default() };
    let get = GetProfiles { users: strings(&["bob", "nobody"]), fields: fields() };
    let nobody = Profile { user: "nobody".into(), ..Profile::default() };
    let got = GetProfilesReply {
        profiles: vec![
            ProfileResult { profile: Some(profile()), code: 0 },
            ProfileResult { profile: Some(nobody), code: ErrorCode::PROFILE_USER_UNKNOWN.0 },
        ],
    };
    let mut vectors = both("set_profile", Command::SetProfile, set, Done {}).to_vec();
    vectors.push(noted(
        request("set_profile request, back to nothing", 20, Command::SetProfile, SetProfile { profile: Some(unset) }),
        "nick and level are there with their default: they are set. The absent ones stay as they were.",
    ));
    vectors.extend(both("get_profiles", Command::GetProfiles, get, got));
    vectors
}

fn results(code: ErrorCode) -> FriendResults {
    let result = |user: &str, code| FriendResult { user: user.into(), code };
    FriendResults { results: vec![result("bob", 0), result("eve", code.0)] }
}

fn asking() -> Vec<FrameVector> {
    let ask = AddFriend {
        user: "bob".into(),
        remark: "Bobby".into(),
        list: "close".into(),
        source: "Search".into(),
        wording: "it's me".into(),
    };
    let add =
        AddFriends { friends: vec![ask, AddFriend { user: "eve".into(), ..AddFriend::default() }], one_way: true };
    let answer = AnswerFriendRequest {
        user: "bob".into(),
        answer: FriendAnswer::AgreeAndAdd.into(),
        remark: "Bobby".into(),
        list: "close".into(),
    };
    let get = GetFriendRequests { outgoing: true, after: "anna".into(), limit: 50 };
    let requests = GetFriendRequestsReply { requests: vec![open_request()], more: true, read_ms: TIME_MS, count: 2 };
    let drop = DropFriendRequests { users: strings(&["bob", "eve"]), outgoing: true };
    let read = ReadFriendRequests { read_ms: TIME_MS };
    [
        both("add_friends", Command::AddFriends, add, results(ErrorCode::FRIEND_REQUEST_SENT)),
        both("answer_friend_request", Command::AnswerFriendRequest, answer, Done {}),
        both("get_friend_requests", Command::GetFriendRequests, get, requests),
        both("read_friend_requests", Command::ReadFriendRequests, read, Done {}),
        both("drop_friend_requests", Command::DropFriendRequests, drop, results(ErrorCode::FRIEND_REQUEST_UNKNOWN)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn keeping() -> Vec<FrameVector> {
    let update = FriendUpdate {
        user: "bob".into(),
        remark: Some("B".into()),
        lists: Some(ListNames { lists: strings(&["work"]) }),
        custom: custom("Tag_SNS_Custom_Since", b"work"),
    };
    let none = FriendUpdate { user: "eve".into(), lists: Some(ListNames::default()), ..FriendUpdate::default() };
    let update = UpdateFriends { friends: vec![update, none] };
    let delete = DeleteFriends { users: strings(&["bob", "eve"]), one_way: true };
    let lists = UpdateFriendLists {
        lists: strings(&["close"]),
        add: strings(&["bob"]),
        remove: strings(&["eve"]),
        ..UpdateFriendLists::default()
    };
    let rename =
        UpdateFriendLists { lists: strings(&["close"]), rename: "near".into(), ..UpdateFriendLists::default() };
    let deleted = UpdateFriendLists { lists: strings(&["work"]), delete: true, ..UpdateFriendLists::default() };
    let all = DeleteAllFriends { one_way: true };
    [
        both("update_friends", Command::UpdateFriends, update, results(ErrorCode::RELATION_INVALID)),
        both("delete_friends", Command::DeleteFriends, delete, results(ErrorCode::FRIEND_UNKNOWN)),
        both("delete_all_friends", Command::DeleteAllFriends, all, Done {}),
        both("update_friend_lists", Command::UpdateFriendLists, lists, results(ErrorCode::RELATION_INVALID)),
        both("rename friend list", Command::UpdateFriendLists, rename, FriendResults::default()),
        both("delete friend list", Command::UpdateFriendLists, deleted, FriendResults::default()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn reading() -> Vec<FrameVector> {
    let place = |last: u8| Bytes::copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0, 0, 0, 0, 9]);
    let get = GetFriends { from: place(3), limit: 100, list: "close".into(), profile: fields() };
    let page = GetFriendsReply {
        friends: vec![friend()],
        removed: strings(&["eve"]),
        next: place(9),
        more: true,
        start_over: false,
        count: 2,
    };
    let over = GetFriendsReply { start_over: true, count: 300, ..GetFriendsReply::default() };
    let chosen = GetChosenFriends { users: strings(&["bob", "eve"]), profile: fields() };
    let eve = Friend { user: "eve".into(), ..Friend::default() };
    let found = GetChosenFriendsReply {
        friends: vec![
            ChosenFriend { friend: Some(friend()), code: 0 },
            ChosenFriend { friend: Some(eve), code: ErrorCode::RELATION_INVALID.0 },
        ],
    };
    let list = |name: &str, count| FriendList { name: name.into(), count };
    let lists = GetFriendListsReply { lists: vec![list("close", 2), list("work", 0)] };
    let check = CheckRelations { users: strings(&["bob", "nobody"]), blacklist: true, one_way: true };
    let unknown = ErrorCode::RELATION_USER_UNKNOWN.0;
    let checked = CheckRelationsReply {
        results: vec![
            RelationResult { user: "bob".into(), relation: Relation::Both.into(), code: 0 },
            RelationResult { user: "nobody".into(), relation: Relation::None.into(), code: unknown },
        ],
    };
    [
        both("get_friends", Command::GetFriends, get, page),
        both("get_friends from the start", Command::GetFriends, GetFriends::default(), over),
        both("get_chosen_friends", Command::GetChosenFriends, chosen, found),
        both("get_friend_lists", Command::GetFriendLists, GetFriendLists {}, lists),
        both("check_relations", Command::CheckRelations, check, checked),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Events about people.
pub(crate) fn events() -> [(&'static str, What); 5] {
    let changed = Profile { custom: custom("Tag_Profile_Custom_Team", b""), gender: None, ..profile() };
    let refused = FriendRequest { state: FriendRequestState::Refused.into(), ..open_request() };
    let lists = FriendListsChanged { lists: strings(&["near", "work"]), renamed: "close".into(), to: "near".into() };
    [
        ("a changed profile", What::Profile(changed)),
        ("changed friends", What::Friends(FriendsChanged { changed: strings(&["bob"]), removed: strings(&["eve"]) })),
        ("a refused friend request", What::FriendRequest(refused)),
        ("read friend requests", What::FriendRequestsRead(FriendRequestsRead { read_ms: TIME_MS })),
        ("changed friend lists", What::FriendLists(lists)),
    ]
}
