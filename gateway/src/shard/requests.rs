//! What each command does: decode, hand to the domain, answer.
//!
//! - [`acts`]: what changes something goes to the act queue and is answered by mail.
//! - [`people`]: either, for profiles and friends.
//! - [`pages`]: what reads waits in a task of its own.
//! - [`routing`]: where to connect.
//! - [`devices`], [`presence`]: what the user's home core knows, or another's, is asked by mail.
//!
//! Nothing here blocks or decides: the domain decides, on the store's threads.

use std::{rc::Rc, sync::atomic::Ordering};

use backend::domain::{
    UserId,
    account::{self, LoggedIn},
    applications,
    callbacks::{Caller, CallerPlatform, StateReason},
    figures::Figure,
};
use bytes::Bytes;
use futures::channel::oneshot;
use prost::Message;
use protocol::{
    ErrorCode,
    command::Command,
    message::{
        AddFriends, AnswerFriendRequest, AnswerGroupApplication, BanFromGroup, Delete, DeleteAllFriends, DeleteFriends,
        Devices, DissolveGroup, DropFriendRequests, Edit, GuestLogin, InviteToGroup, Login, LoginReply,
        MuteGroupMembers, Pin, Platform, ReadFriendRequests, Recall, RemoveFromGroup, RenameLabel, SendReceipts,
        SetExtensions, SetProfile, TransferGroup, UpdateBlacklist, UpdateConversation, UpdateFriendLists,
        UpdateFriends, UpdateGroup, UpdateGroupAttributes,
    },
};

use super::{
    acts::{self, ToKind},
    connection::Connection,
    devices, groups, pages, people, presence, routing,
    session::Session,
};
use crate::{
    errors::Refusal,
    mailbox::{Mail, Registration},
    shared::Shared,
};

/// What clients are told when the server drains: spread out, so that they don't all return at once.
pub(super) const DRAIN_RETRY_AFTER_MS: u32 = 1_000;

/// Longest device name, in bytes.
const DEVICE_BYTES_MAX: usize = 64;

/// Handles one request.
pub(super) fn handle(connection: &Rc<Connection>, request: u32, command: Command, payload: Bytes) {
    let result = match command {
        Command::Login => decode(payload).and_then(|login| start_login(connection, request, login)),
        Command::Send => decode(payload).and_then(|send| acts::send(connection, request, send)),
        Command::Recall => change::<Recall>(connection, request, payload),
        Command::Edit => change::<Edit>(connection, request, payload),
        Command::Delete => change::<Delete>(connection, request, payload),
        Command::SendReceipts => change::<SendReceipts>(connection, request, payload),
        Command::SetExtensions => change::<SetExtensions>(connection, request, payload),
        Command::Pin => change::<Pin>(connection, request, payload),
        Command::UpdateConversation => change::<UpdateConversation>(connection, request, payload),
        Command::RenameLabel => change::<RenameLabel>(connection, request, payload),
        Command::UpdateBlacklist => change::<UpdateBlacklist>(connection, request, payload),
        Command::Sync => decode(payload).and_then(|asked| pages::sync(connection, request, asked)),
        Command::History => decode(payload).and_then(|asked| pages::history(connection, request, asked)),
        Command::Conversations => decode(payload).and_then(|asked| pages::conversations(connection, request, asked)),
        Command::GetConversations => {
            decode(payload).and_then(|asked| pages::chosen_conversations(connection, request, asked))
        }
        Command::GetUnread => decode(payload).and_then(|asked| pages::unread(connection, request, asked)),
        Command::GetPinned => decode(payload).and_then(|asked| pages::pinned(connection, request, asked)),
        Command::GetExtensions => decode(payload).and_then(|asked| pages::extensions(connection, request, asked)),
        Command::GetBlacklist => decode(payload).and_then(|asked| pages::blacklist(connection, request, asked)),
        Command::SetProfile => change::<SetProfile>(connection, request, payload),
        Command::AddFriends => change::<AddFriends>(connection, request, payload),
        Command::AnswerFriendRequest => change::<AnswerFriendRequest>(connection, request, payload),
        Command::UpdateFriends => change::<UpdateFriends>(connection, request, payload),
        Command::DeleteFriends => change::<DeleteFriends>(connection, request, payload),
        Command::DeleteAllFriends => change::<DeleteAllFriends>(connection, request, payload),
        Command::ReadFriendRequests => change::<ReadFriendRequests>(connection, request, payload),
        Command::DropFriendRequests => change::<DropFriendRequests>(connection, request, payload),
        Command::UpdateFriendLists => change::<UpdateFriendLists>(connection, request, payload),
        Command::GetProfiles => decode(payload).and_then(|asked| people::profiles(connection, request, asked)),
        Command::GetFriends => decode(payload).and_then(|asked| people::friends(connection, request, asked)),
        Command::GetChosenFriends => {
            decode(payload).and_then(|asked| people::chosen_friends(connection, request, asked))
        }
        Command::GetFriendRequests => {
            decode(payload).and_then(|asked| people::friend_requests(connection, request, asked))
        }
        Command::GetFriendLists => decode(payload).and_then(|asked| people::friend_lists(connection, request, asked)),
        Command::CheckRelations => {
            decode(payload).and_then(|asked| people::check_relations(connection, request, asked))
        }
        Command::Merge => decode(payload).and_then(|asked| pages::merge(connection, request, asked)),
        Command::GetMerged => decode(payload).and_then(|asked| pages::merged(connection, request, asked)),
        Command::Devices => decode(payload).and_then(|Devices {}| devices::start_devices(connection, request)),
        Command::SignOut => decode(payload).and_then(|wish| devices::start_sign_out(connection, request, wish)),
        Command::SetPresence => decode(payload).and_then(|set| presence::start_set_presence(connection, request, set)),
        Command::QueryPresence => decode(payload).and_then(|query| presence::start_query(connection, request, &query)),
        Command::SubscribePresence => {
            decode(payload).and_then(|wish| presence::start_subscribe(connection, request, &wish))
        }
        Command::GuestLogin => decode(payload).and_then(|login| start_guest_login(connection, request, &login)),
        Command::Locate => decode(payload).and_then(|asked| routing::locate(connection, request, &asked)),
        Command::ReportRoundTrips => decode(payload).and_then(|report| routing::report(connection, request, report)),
        Command::CreateGroup => decode(payload).and_then(|asked| groups::create(connection, request, asked)),
        Command::UpdateGroup => change::<UpdateGroup>(connection, request, payload),
        Command::DissolveGroup => change::<DissolveGroup>(connection, request, payload),
        Command::TransferGroup => change::<TransferGroup>(connection, request, payload),
        Command::InviteToGroup => change::<InviteToGroup>(connection, request, payload),
        Command::RemoveFromGroup => change::<RemoveFromGroup>(connection, request, payload),
        Command::BanFromGroup => change::<BanFromGroup>(connection, request, payload),
        Command::MuteGroupMembers => change::<MuteGroupMembers>(connection, request, payload),
        Command::AnswerGroupApplication => change::<AnswerGroupApplication>(connection, request, payload),
        Command::UpdateGroupAttributes => change::<UpdateGroupAttributes>(connection, request, payload),
        Command::UpdateGroupMember => {
            decode(payload).and_then(|asked| groups::update_member(connection, request, asked))
        }
        Command::UpdateGroupCounter => {
            decode(payload).and_then(|asked| groups::update_counter(connection, request, asked))
        }
        Command::JoinGroup => decode(payload).and_then(|asked| groups::join(connection, request, asked)),
        Command::LeaveGroup => decode(payload).and_then(|asked| groups::leave(connection, request, asked)),
        Command::GetGroups => decode(payload).and_then(|asked| groups::groups(connection, request, asked)),
        Command::GetJoinedGroups => decode(payload).and_then(|asked| groups::joined(connection, request, asked)),
        Command::SearchGroups => decode(payload).and_then(|asked| groups::search(connection, request, asked)),
        Command::GetGroupBans => decode(payload).and_then(|asked| groups::bans(connection, request, asked)),
        Command::GetGroupMembers => decode(payload).and_then(|asked| groups::members(connection, request, asked)),
        Command::GetChosenGroupMembers => {
            decode(payload).and_then(|asked| groups::chosen_members(connection, request, asked))
        }
        Command::GetGroupApplications => {
            decode(payload).and_then(|asked| groups::applications(connection, request, asked))
        }
        Command::GetGroupAttributes => decode(payload).and_then(|asked| groups::attributes(connection, request, asked)),
        Command::GetGroupCounters => decode(payload).and_then(|asked| groups::counters(connection, request, asked)),
        Command::GetGroupReceipts => decode(payload).and_then(|asked| groups::receipts(connection, request, asked)),
        Command::GetGroupOnline => decode(payload).and_then(|asked| groups::online(connection, request, asked)),
    };
    if let Err(refusal) = result {
        connection.refuse(request, refusal);
    }
}

fn decode<M: Message + Default>(payload: Bytes) -> Result<M, Refusal> {
    M::decode(payload).map_err(|_| ErrorCode::PAYLOAD_INVALID.into())
}

fn change<M: Message + Default + ToKind>(
    connection: &Rc<Connection>,
    request: u32,
    payload: Bytes,
) -> Result<(), Refusal> {
    acts::change(connection, request, decode::<M>(payload)?)
}

fn start_login(connection: &Rc<Connection>, request: u32, login: Login) -> Result<(), Refusal> {
    if login.device.len() > DEVICE_BYTES_MAX {
        return Err(invalid("device must have at most 64 bytes"));
    }
    if !connection.login_started() {
        return Err(ErrorCode::ALREADY_LOGGED_IN.into());
    }
    let task = connection.clone();
    connection.core.spawn_for(connection, async move {
        let connection = task;
        match log_in(&connection, &login).await {
            Ok(()) => {
                connection.core.metrics.logins.increment(1);
                connection.core.shared.figures.count(login.sdkappid, Figure::Logins, 1);
                let reply = LoginReply {
                    server_time_ms: connection.core.shared.clock.unix_ms(),
                    store: connection.core.shared.store_id.clone(),
                    locate: routing::is_much_better_elsewhere(&connection),
                };
                connection.with_protocol(|protocol| protocol.respond(request, &reply));
            }
            Err(refusal) => connection.login_failed(request, refusal),
        }
    });
    Ok(())
}

/// Logs in without an account. Nobody but this connection knows of a guest: it is in no table of who is online.
fn start_guest_login(connection: &Rc<Connection>, request: u32, login: &GuestLogin) -> Result<(), Refusal> {
    if !connection.login_started() {
        return Err(ErrorCode::ALREADY_LOGGED_IN.into());
    }
    let (app, platform) = (login.sdkappid, login.platform());
    let task = connection.clone();
    connection.core.spawn_for(connection, async move {
        let connection = task;
        let Shared { store, development, clock, store_id, rng, router, guests, config, .. } = &*connection.core.shared;
        if guests.load(Ordering::Relaxed) >= config.guests_max {
            return connection.login_failed(request, ErrorCode::GUESTS_FULL.into());
        }
        match applications::ensure_takes_guests(store, app, *development).await {
            Ok(()) => {
                // Longer than an account's name can be found by chance; and nothing is ever stored under it.
                let name = format!("@guest#{:016x}", rng.next_u64());
                let user = UserId::new(&name).unwrap_or_else(|| unreachable!("a name of printable characters"));
                let home = router.home(app, &user);
                let caller = Caller { ip: connection.ip, platform: caller_platform(platform), ..Caller::default() };
                let session = Session::guest(app, user, home, caller);
                if connection.logged_in(session) {
                    connection.core.metrics.logins.increment(1);
                    let reply = LoginReply {
                        server_time_ms: clock.unix_ms(),
                        store: store_id.clone(),
                        locate: routing::is_much_better_elsewhere(&connection),
                    };
                    connection.with_protocol(|protocol| protocol.respond(request, &reply));
                }
            }
            Err(error) => connection.login_failed(request, error.into()),
        }
    });
    Ok(())
}

async fn log_in(connection: &Rc<Connection>, login: &Login) -> Result<(), Refusal> {
    let core = &connection.core;
    let user = UserId::new(&login.user).ok_or(ErrorCode::USER_INVALID)?;
    let Shared { store, clock, development, .. } = &*core.shared;
    let credential = login.usersig.clone();
    let LoggedIn { settings, issued_s } =
        account::login(store, clock, *development, login.sdkappid, &user, credential).await?;
    // In the online table before anything of the log can be read: see `session`.
    let home = core.shared.router.home(login.sdkappid, &user);
    let (registered, done) = oneshot::channel();
    let address = core.address(connection.id);
    let app = login.sdkappid;
    let caller = Caller { ip: connection.ip, platform: caller_platform(login.platform()), ..Caller::default() };
    let registration = Registration {
        app,
        user: user.clone(),
        address,
        platform: login.platform(),
        device: login.device.clone(),
        background: login.background,
        caller: caller.clone(),
        issued_s,
        settings,
        registered,
    };
    core.shared.router.mailbox(home).put(Mail::Register(Box::new(registration)));
    let admission = done.await.map_err(|_| ErrorCode::SERVER_DRAINING)??;
    let session = Session::new((app, user.clone()), home, caller.clone(), issued_s, admission.send_bucket);
    if !connection.logged_in(session) {
        core.shared.router.mailbox(home).put(Mail::Unregister {
            app,
            user,
            address,
            caller,
            reason: StateReason::LinkClose,
        });
    }
    Ok(())
}

/// What a client runs on, as the application's server is told.
pub(super) fn caller_platform(platform: Platform) -> CallerPlatform {
    match platform {
        Platform::Unknown => CallerPlatform::Unknown,
        Platform::Android => CallerPlatform::Android,
        Platform::Iphone => CallerPlatform::Ios,
        Platform::Ipad => CallerPlatform::Ipad,
        Platform::Windows => CallerPlatform::Windows,
        Platform::Mac => CallerPlatform::Mac,
        Platform::Web => CallerPlatform::Web,
        Platform::Linux => CallerPlatform::Linux,
    }
}

/// Who the client is. The protocol lets nobody here before login.
pub(super) fn identity(connection: &Connection) -> Result<(u32, UserId), Refusal> {
    connection
        .with_session(|session| (session.app, session.user.clone()))
        .ok_or_else(|| ErrorCode::NOT_LOGGED_IN.into())
}

/// A user's name.
pub(super) fn user_id(name: &str) -> Result<UserId, Refusal> {
    UserId::new(name).ok_or_else(|| ErrorCode::USER_INVALID.into())
}

pub(super) fn invalid(text: &'static str) -> Refusal {
    Refusal { text: text.to_owned(), ..ErrorCode::ARGUMENT_INVALID.into() }
}
