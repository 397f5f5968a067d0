//! The valid vectors of devices, presence, what is done to messages, conversations and the blacklist, and of
//! every kind of event.

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    ErrorCode,
    command::{Command, Topic},
    frame::{Kind, Prefix},
    message::{event::What, *},
};

use crate::{
    fields::Payload,
    format::{FrameVector, hex},
    frames::{TIME_MS, body, decode_only, event, id16, message, noted, position, push, request, response, vector},
    groups, people, places,
};

pub(crate) fn frames() -> impl Iterator<Item = FrameVector> {
    let all =
        [devices(), presence(), sending(), changing(), reading(), conversations(), blacklist(), events(), pushes()];
    let all = all.into_iter().chain([people::frames(), groups::frames(), places::frames()]);
    all.flatten()
}

/// A request and its reply.
pub(crate) fn both(
    name: &str,
    command: Command,
    ask: impl Into<Payload>,
    reply: impl Into<Payload>,
) -> [FrameVector; 2] {
    let id = 10;
    [request(&format!("{name} request"), id, command, ask), response(&format!("{name} reply"), id, command, reply)]
}

fn with_bob() -> Option<Conversation> {
    Some(Conversation { user: "bob".into(), ..Default::default() })
}

pub(crate) fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn device(session: u64, platform: Platform, device: &str, own: bool) -> Device {
    let device = device.into();
    Device { session, platform: platform.into(), device, since_ms: TIME_MS, background: !own, own }
}

fn devices() -> Vec<FrameVector> {
    let login = Login {
        sdkappid: 1_400_000_001,
        user: "ann".into(),
        usersig: "eJw-not-a-real-signature".into(),
        platform: Platform::Linux.into(),
        device: "desk".into(),
        background: true,
    };
    let store = Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let logged_in = LoginReply { server_time_ms: TIME_MS, store, ..Default::default() };
    let list = vec![
        device(u64::MAX, Platform::Iphone, "iphone-1", true),
        device(2, Platform::Unknown, "", false),
        device(3, Platform::Web, "tab", false),
    ];
    let code = ErrorCode::SIGNED_OUT_BY_OTHER_DEVICE;
    let signed_out = GoAway {
        code: code.0,
        text: code.text().into(),
        retry_after_ms: 0,
        by: Some(device(4, Platform::Android, "pixel-1", false)),
        ..GoAway::default()
    };
    let all = SignOut { sessions: vec![], invalidate_usersigs: true };
    let mut vectors = vec![
        request("login request in the background", 1, Command::Login, login),
        response("login reply with the store", 1, Command::Login, logged_in),
    ];
    vectors.extend(both("devices", Command::Devices, Devices {}, DevicesReply { devices: list }));
    let some = SignOut { sessions: vec![2, 300, u64::MAX], invalidate_usersigs: false };
    vectors.extend(both("sign_out", Command::SignOut, some, SignOutReply { count: 3 }));
    vectors.push(request("sign_out request, everything everywhere", 11, Command::SignOut, all));
    vectors.push(noted(
        vector("goaway, signed out by another device", Kind::GoAway, Prefix::None, signed_out),
        "by is the device that took over.",
    ));
    vectors
}

fn online(user: &str) -> Presence {
    let platform =
        |platform: Platform, state: OnlineState| PlatformState { platform: platform.into(), state: state.into() };
    Presence {
        user: user.into(),
        state: OnlineState::Online.into(),
        status: "at work ✓".into(),
        platforms: vec![
            platform(Platform::Iphone, OnlineState::PushOnline),
            platform(Platform::Windows, OnlineState::Online),
        ],
    }
}

fn presence() -> Vec<FrameVector> {
    let offline = Presence { user: "eve".into(), ..Presence::default() };
    let query = QueryPresence { users: strings(&["bob", "eve"]) };
    let answer = QueryPresenceReply { users: vec![online("bob"), offline] };
    let subscribe = SubscribePresence { users: strings(&["bob"]), without: strings(&["eve", "kim"]), reset: true };
    let subscribed = SubscribePresenceReply { users: vec![online("bob")] };
    let set = SetPresence { background: Some(true), status: Some("at work ✓".into()) };
    let cleared = SetPresence { background: None, status: Some(String::new()) };
    let front = SetPresence { background: Some(false), status: None };
    let mut vectors = both("set_presence", Command::SetPresence, set, SetPresenceReply {}).to_vec();
    vectors.extend([
        noted(
            request("set_presence request, no status", 12, Command::SetPresence, cleared),
            "status is there, and empty; background is absent: it stays as it was.",
        ),
        request("set_presence request, in front", 13, Command::SetPresence, front),
    ]);
    vectors.extend(both("query_presence", Command::QueryPresence, query, answer));
    vectors.extend(both("subscribe_presence", Command::SubscribePresence, subscribe, subscribed));
    vectors
}

fn sending() -> Vec<FrameVector> {
    let typing = Send {
        to_user: "bob".into(),
        client_message_id: id16(),
        body: body("…"),
        priority: Priority::Low.into(),
        online_only: true,
        ..Send::default()
    };
    let with_flags = Send {
        priority: Priority::High.into(),
        online_only: false,
        exclude_from_unread: true,
        exclude_from_last_message: true,
        need_receipt: true,
        ..typing.clone()
    };
    // An element of field 15 between two texts.
    let newer = Bytes::from_static(b"\x0a\x05\x0a\x03\x0a\x01a\x0a\x05\x7a\x03\x0a\x01x\x0a\x05\x0a\x03\x0a\x01b");
    let newer = Send { to_user: "bob".into(), client_message_id: id16(), body: newer, ..Send::default() };
    vec![
        request("send request with flags", 14, Command::Send, with_flags),
        request("send request, online only", 15, Command::Send, typing),
        noted(
            response(
                "send reply, online only",
                15,
                Command::Send,
                SendReply { time_ms: TIME_MS, ..SendReply::default() },
            ),
            "seq is 0: it is stored nowhere.",
        ),
        noted(
            request("send request with an element of a newer kind", 16, Command::Send, newer),
            "The server keeps body as it is.",
        ),
    ]
}

/// A message with everything that can be told of one that was not recalled.
fn full_message() -> Message {
    Message {
        priority: Priority::High.into(),
        exclude_from_unread: true,
        exclude_from_last_message: true,
        need_receipt: true,
        revision: 3,
        edited_ms: TIME_MS + 60_000,
        sender_count: 12,
        other_count: 7,
        receipt_ms: TIME_MS + 90_000,
        extended: true,
        ..message(12, "hello, Bob!")
    }
}

fn recalled_message() -> Message {
    let recalled = Recalled { by: "ann".into(), time_ms: TIME_MS + 30_000, reason: "wrong window".into() };
    Message { body: Bytes::new(), revision: 1, recalled: Some(recalled), sender_count: 12, ..message(12, "") }
}

fn changing() -> Vec<FrameVector> {
    let recall = Recall { conversation: with_bob(), seq: 12, reason: "wrong window".into() };
    let recalled = MessageReply { message: Some(recalled_message()) };
    let edit = Edit { conversation: with_bob(), seq: 12, body: body("hello, Bob!") };
    let edited = MessageReply { message: Some(full_message()) };
    let delete = Delete { conversation: with_bob(), seqs: vec![1, 127, 128, u64::MAX] };
    let receipts = SendReceipts { conversation: with_bob(), seqs: vec![3, 4] };
    let change = |key: &str, value: &'static [u8], remove, version| ExtensionChange {
        key: key.into(),
        value: Bytes::from_static(value),
        remove,
        version,
    };
    let changes = vec![change("like/ann", b"1", false, 0), change("like/bob", b"", true, 5)];
    let results = vec![
        ExtensionResult { extension: Some(extension("like/ann", b"1", 7)), code: 0 },
        ExtensionResult { extension: Some(extension("like/bob", b"2", 6)), code: ErrorCode::EXTENSION_CONFLICT.0 },
    ];
    let set = SetExtensions { conversation: with_bob(), seq: 12, changes };
    let pin = Pin { conversation: with_bob(), seq: 12, unpin: false };
    [
        both("recall", Command::Recall, recall, recalled),
        both("edit", Command::Edit, edit, edited),
        both("delete", Command::Delete, delete, Done {}),
        both("send_receipts", Command::SendReceipts, receipts, Done {}),
        both("set_extensions", Command::SetExtensions, set, SetExtensionsReply { results }),
        both("pin", Command::Pin, pin.clone(), Done {}),
        both("unpin", Command::Pin, Pin { unpin: true, ..pin }, Done {}),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn extension(key: &str, value: &'static [u8], version: u64) -> Extension {
    Extension { key: key.into(), value: Bytes::from_static(value), version }
}

fn reading() -> Vec<FrameVector> {
    let of_message = GetExtensions { conversation: with_bob(), seq: 12, after: "heart".into() };
    let extensions = vec![extension("like/ann", b"1", 7), extension("like/bob", b"2", 6)];
    let pinned = vec![Pinned { message: Some(full_message()), by: "bob".into(), time_ms: TIME_MS }];
    let sources = vec![
        MergeSource { conversation: with_bob(), seqs: vec![3, 4, 9] },
        MergeSource { conversation: Some(Conversation { user: "eve".into(), ..Default::default() }), seqs: vec![1] },
    ];
    let copy = |from: &str, text: &str| Message {
        from: from.into(),
        time_ms: TIME_MS,
        body: body(text),
        ..Message::default()
    };
    let merged = GetMergedReply { messages: vec![copy("ann", "hello, Bob"), copy("bob", "hello")], more: true };
    let by_time = History { user: "bob".into(), from_ms: TIME_MS, forward: true, ..History::default() };
    let page = HistoryReply {
        messages: vec![full_message(), message(14, "b")],
        more: true,
        head_seq: 301,
        next_seq: 15,
        first_seq: 12,
    };
    let from_end = Sync { store: Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]), from_end: true, ..Sync::default() };
    let start_over = SyncReply { cursor: position(9), start_over: true, ..SyncReply::default() };
    [
        both("get_extensions", Command::GetExtensions, of_message, GetExtensionsReply { extensions, more: true }),
        both("get_pinned", Command::GetPinned, GetPinned { conversation: with_bob() }, GetPinnedReply { pinned }),
        both("merge", Command::Merge, Merge { content_id: id16(), sources }, MergeReply { count: 4 }),
        both("get_merged", Command::GetMerged, GetMerged { content_id: id16(), from_index: 100 }, merged),
        both("history by time", Command::History, by_time, page),
        both("sync from the end", Command::Sync, from_end, start_over),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn state() -> ConversationState {
    ConversationState {
        pinned: true,
        receive: ReceiveOption::Silent.into(),
        marked_unread: true,
        custom_data: Bytes::from_static(b"draft"),
        labels: strings(&["family", "work"]),
        read_seq: 11,
        cleared_seq: 2,
        removed_seq: 1,
        ..ConversationState::default()
    }
}

fn conversations() -> Vec<FrameVector> {
    let entry = ConversationEntry {
        conversation: with_bob(),
        last_message: Some(message(12, "hello, Bob")),
        unread: 3,
        mentions: vec![10, 300],
        head_seq: 12,
        active_ms: TIME_MS,
        peer_read_seq: 9,
        state: Some(state()),
    };
    let silent = ConversationEntry {
        conversation: Some(Conversation { user: "eve".into(), ..Default::default() }),
        ..Default::default()
    };
    let list = Conversations { from: Bytes::from_static(&[0xff, 0]), limit: 20, label: "work".into() };
    let page = ConversationsReply { conversations: vec![entry.clone()], next: Bytes::from_static(&[0xff, 1]) };
    let chosen = GetConversations {
        conversations: vec![with_bob().unwrap(), Conversation { user: "eve".into(), ..Default::default() }],
    };
    let answer = GetConversationsReply { conversations: vec![entry, silent] };
    let update = UpdateConversation {
        conversation: with_bob(),
        pinned: Some(true),
        receive: Some(ReceiveOption::Silent.into()),
        marked_unread: Some(true),
        custom_data: Some(Bytes::from_static(b"draft")),
        label: strings(&["family", "work"]),
        unlabel: strings(&["new"]),
        read_seq: 11,
        clear: true,
        remove: true,
        ..UpdateConversation::default()
    };
    let unset = UpdateConversation {
        conversation: with_bob(),
        pinned: Some(false),
        receive: Some(ReceiveOption::Notify.into()),
        marked_unread: Some(false),
        custom_data: Some(Bytes::new()),
        ..Default::default()
    };
    let rename = RenameLabel { label: "work".into(), to: "office".into() };
    let updated = UpdateConversationReply { state: Some(state()) };
    let mut vectors = both("conversations", Command::Conversations, list, page).to_vec();
    vectors.extend(both("get_conversations", Command::GetConversations, chosen, answer));
    vectors.extend(both("update_conversation", Command::UpdateConversation, update, updated));
    let marked = UpdateConversation {
        conversation: with_bob(),
        remove: true,
        keep_history: true,
        set_marks: 0b101,
        clear_marks: 1 << 40,
        ..Default::default()
    };
    let marks = UpdateConversationReply { state: Some(ConversationState { marks: 0b101, ..Default::default() }) };
    vectors.extend(both("update_conversation with marks", Command::UpdateConversation, marked, marks));
    vectors.push(noted(
        request("update_conversation request, back to the defaults", 17, Command::UpdateConversation, unset),
        "The optional fields are there with their default: they are set. Absent ones stay as they were.",
    ));
    vectors.extend(both("rename_label", Command::RenameLabel, rename, Done {}));
    vectors.extend(both("get_unread", Command::GetUnread, GetUnread {}, GetUnreadReply { messages: 300, marked: 1 }));
    vectors
}

fn blacklist() -> Vec<FrameVector> {
    let update = UpdateBlacklist { add: strings(&["eve"]), remove: strings(&["kim", "lee"]) };
    let page = GetBlacklist { after: "bob".into(), limit: 100 };
    let names = GetBlacklistReply { users: strings(&["eve", "mia"]), more: true };
    let mut vectors = both("update_blacklist", Command::UpdateBlacklist, update, Done {}).to_vec();
    vectors.extend(both("get_blacklist", Command::GetBlacklist, page, names));
    vectors
}

/// Each kind of event but a new message, as a push and together in a page of the log.
fn events() -> Vec<FrameVector> {
    let removed = Extension { key: "like/bob".into(), ..Extension::default() };
    let extensions = vec![extension("like/ann", b"1", 7), removed];
    let kinds = [
        ("a receipt", What::Changed(full_message())),
        ("a recalled message", What::Changed(recalled_message())),
        ("deleted messages", What::Deleted(MessagesDeleted { conversation: with_bob(), seqs: vec![3, 300] })),
        (
            "a changed conversation",
            What::Conversation(ConversationChanged { conversation: with_bob(), state: Some(state()) }),
        ),
        ("the other side's read mark", What::PeerRead(PeerRead { conversation: with_bob(), read_seq: 12 })),
        ("changed extensions", What::Extensions(ExtensionsChanged { conversation: with_bob(), seq: 12, extensions })),
        (
            "an unpinned message",
            What::Pin(PinChanged { conversation: with_bob(), seq: 12, by: "bob".into(), unpinned: true }),
        ),
        (
            "a changed blacklist",
            What::Blacklist(BlacklistChanged { added: strings(&["eve"]), removed: strings(&["kim"]) }),
        ),
        ("a renamed label", What::Label(RenameLabel { label: "work".into(), to: "office".into() })),
    ];
    let of = |number: u8, what: &What| Event { position: position(number), what: Some(what.clone()) };
    let page = SyncReply {
        events: (1..).zip(&kinds).map(|(number, (_, what))| of(number, what)).collect(),
        cursor: position(8),
        ..SyncReply::default()
    };
    let pushes = (1..).zip(&kinds).map(|(number, (name, what))| {
        let event = EventPush { event: Some(of(number, what)), cursor: Bytes::new() };
        push(&format!("event push of {name}"), Topic::Event.code(), event)
    });
    let people = (20..).zip(people::events().into_iter().chain(groups::events()));
    let people = people.map(|(number, (name, what))| {
        let event = EventPush { event: Some(of(number, &what)), cursor: Bytes::new() };
        push(&format!("event push of {name}"), Topic::Event.code(), event)
    });
    let page = response("sync reply with every kind of event", 18, Command::Sync, page);
    pushes.chain(people).chain([page]).collect()
}

fn pushes() -> Vec<FrameVector> {
    let typing = Message { seq: 0, ..message(0, "…") };
    // Field 100 of the event, behind its position: what happened, in the words of a newer server.
    let mut newer = Event { position: position(12), what: None }.encode_to_vec();
    newer.extend([0xa2, 0x06, 0x02, 0x08, 0x01]);
    let payload = [&[0x0a, newer.len() as u8], &newer[..]].concat();
    let frame = [&[0x04, payload.len() as u8 + 1, 0x01], &payload[..]].concat();
    let known = EventPush { event: Some(Event { position: position(12), what: None }), cursor: Bytes::new() };
    let both_kinds = SyncReply {
        events: vec![event(8, 1, "one"), Event { position: position(9), what: None }],
        cursor: position(9),
        ..SyncReply::default()
    };
    vec![
        noted(push("message push", Topic::Message.code(), typing), "An online-only message: in no log, without seq."),
        push("presence push", Topic::Presence.code(), online("bob")),
        noted(
            push(
                "presence push, offline",
                Topic::Presence.code(),
                Presence { user: "bob".into(), ..Presence::default() },
            ),
            "No platform is left, and no status.",
        ),
        decode_only(
            push("event push of a newer kind", Topic::Event.code(), known),
            false,
            &hex(&frame),
            "The content is in field 100: nothing to show, and the position is stored all the same.",
        ),
        response("sync reply with an event without content", 19, Command::Sync, both_kinds),
    ]
}
