//! What a client can ask for about profiles, friends and friend requests: one method a command, as in `features.rs`.

use bytes::Bytes;
use protocol::{
    command::Command,
    message::{
        AddFriend, AddFriends, AnswerFriendRequest, CheckRelations, CheckRelationsReply, ChosenFriend,
        DeleteAllFriends, DeleteFriends, Done, DropFriendRequests, Friend, FriendAnswer, FriendList, FriendResults,
        FriendUpdate, GetChosenFriends, GetChosenFriendsReply, GetFriendLists, GetFriendListsReply, GetFriendRequests,
        GetFriendRequestsReply, GetFriends, GetFriendsReply, GetProfiles, GetProfilesReply, Profile, ProfileFields,
        ProfileResult, ReadFriendRequests, RelationResult, SetProfile, UpdateFriendLists, UpdateFriends,
    },
};

use crate::{Answer, Client};

fn names(users: &[&str]) -> Vec<String> {
    users.iter().map(ToString::to_string).collect()
}

fn codes(results: FriendResults) -> Vec<u32> {
    results.results.into_iter().map(|result| result.code).collect()
}

/// Profiles.
impl Client {
    /// Changes the user's own profile.
    pub fn set_profile(&mut self, profile: Profile) -> Answer<Done> {
        self.call(Command::SetProfile, &SetProfile { profile: Some(profile) })
    }

    /// Profiles of users, with chosen fields or all.
    pub fn profiles(&mut self, users: &[&str], fields: Option<ProfileFields>) -> Answer<Vec<ProfileResult>> {
        let asked = GetProfiles { users: names(users), fields };
        Ok(self.call::<GetProfilesReply>(Command::GetProfiles, &asked)?.profiles)
    }

    /// The whole profile of a user who exists.
    pub fn profile(&mut self, user: &str) -> Profile {
        let result = self.profiles(&[user], None).expect("profiles").remove(0);
        assert_eq!(result.code, 0, "{user} does not exist");
        result.profile.expect("a profile")
    }
}

/// Friends. Where users are named, the codes are those of each.
impl Client {
    /// Asks for friendships, in both directions.
    pub fn add_friends(&mut self, friends: Vec<AddFriend>, one_way: bool) -> Answer<Vec<u32>> {
        Ok(codes(self.call(Command::AddFriends, &AddFriends { friends, one_way })?))
    }

    /// Asks for one friendship, in both directions, with nothing to say.
    pub fn add_friend(&mut self, user: &str) -> u32 {
        let friends = vec![AddFriend { user: user.to_owned(), ..AddFriend::default() }];
        self.add_friends(friends, false).expect("an answer").remove(0)
    }

    /// Answers a request.
    pub fn answer_friend(&mut self, user: &str, answer: FriendAnswer) -> Answer<Done> {
        let (remark, list) = (format!("my {user}"), String::new());
        let answer = AnswerFriendRequest { user: user.to_owned(), answer: answer.into(), remark, list };
        self.call(Command::AnswerFriendRequest, &answer)
    }

    /// Changes what is kept about friends.
    pub fn update_friends(&mut self, friends: Vec<FriendUpdate>) -> Answer<Vec<u32>> {
        Ok(codes(self.call(Command::UpdateFriends, &UpdateFriends { friends })?))
    }

    /// Ends friendships.
    pub fn delete_friends(&mut self, users: &[&str], one_way: bool) -> Answer<Vec<u32>> {
        Ok(codes(self.call(Command::DeleteFriends, &DeleteFriends { users: names(users), one_way })?))
    }

    /// Ends all friendships.
    pub fn delete_all_friends(&mut self) -> Answer<Done> {
        self.call(Command::DeleteAllFriends, &DeleteAllFriends { one_way: false })
    }

    /// One page of friends.
    pub fn friends_page(&mut self, asked: GetFriends) -> Answer<GetFriendsReply> {
        self.call(Command::GetFriends, &asked)
    }

    /// All friends behind a place, who was removed, and the place behind them.
    pub fn friends(&mut self, mut from: Bytes, limit: u32) -> (Vec<Friend>, Vec<String>, Bytes) {
        let (mut friends, mut removed) = (Vec::new(), Vec::new());
        loop {
            let page =
                self.friends_page(GetFriends { from, limit, ..GetFriends::default() }).expect("a page of friends");
            assert!(!page.start_over, "nothing is forgotten");
            friends.extend(page.friends);
            removed.extend(page.removed);
            from = page.next;
            if !page.more {
                return (friends, removed, from);
            }
        }
    }

    /// Names of all friends.
    pub fn friend_names(&mut self) -> Vec<String> {
        self.friends(Bytes::new(), 0).0.into_iter().map(|friend| friend.user).collect()
    }

    /// Chosen friends.
    pub fn chosen_friends(&mut self, users: &[&str], profile: Option<ProfileFields>) -> Answer<Vec<ChosenFriend>> {
        let asked = GetChosenFriends { users: names(users), profile };
        Ok(self.call::<GetChosenFriendsReply>(Command::GetChosenFriends, &asked)?.friends)
    }

    /// A page of open requests.
    pub fn friend_requests(&mut self, outgoing: bool, after: &str, limit: u32) -> Answer<GetFriendRequestsReply> {
        self.call(Command::GetFriendRequests, &GetFriendRequests { outgoing, after: after.to_owned(), limit })
    }

    /// Makes requests read up to a time.
    pub fn read_friend_requests(&mut self, read_ms: u64) -> Answer<Done> {
        self.call(Command::ReadFriendRequests, &ReadFriendRequests { read_ms })
    }

    /// Takes open requests off.
    pub fn drop_friend_requests(&mut self, users: &[&str], outgoing: bool) -> Answer<Vec<u32>> {
        Ok(codes(self.call(Command::DropFriendRequests, &DropFriendRequests { users: names(users), outgoing })?))
    }

    /// Changes friend lists.
    pub fn update_friend_lists(&mut self, update: UpdateFriendLists) -> Answer<Vec<u32>> {
        Ok(codes(self.call(Command::UpdateFriendLists, &update)?))
    }

    /// The friend lists.
    pub fn friend_lists(&mut self) -> Vec<FriendList> {
        self.call::<GetFriendListsReply>(Command::GetFriendLists, &GetFriendLists {}).expect("friend lists").lists
    }

    /// How the user and others stand to each other.
    pub fn check_relations(&mut self, users: &[&str], blacklist: bool, one_way: bool) -> Answer<Vec<RelationResult>> {
        let asked = CheckRelations { users: names(users), blacklist, one_way };
        Ok(self.call::<CheckRelationsReply>(Command::CheckRelations, &asked)?.results)
    }
}
