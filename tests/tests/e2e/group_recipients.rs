//! Messages of a group that are for some of its members alone (MSG-01, GRP-26, CON-10).
//!
//! Goal: one member of a group is told something that the others never see: neither as it comes, nor in history, nor by
//! its place. Mechanics: the same in a small group, whose members each have a log, and in a large one, which has one for
//! all. Without it a private word becomes public in the one place that was forgotten.

use prost::Message as _;
use protocol::{
    ErrorCode,
    command::Command,
    message::{
        Body, Conversation, Done, Edit, GetExtensions, GetExtensionsReply, GetPinned, GetPinnedReply, GroupType,
        MessageReply, Pin, Recall, Send, SendReceipts, SendReply, event::What,
    },
};
use serde_json::json;
use tests::{Answer, Client, Gateway, MessageExt, text_body, unique_id};

const SEND: &str = "group_open_http_svc/send_group_msg";

fn to_some(group: &str, text: &str, recipients: &[&str]) -> Send {
    Send {
        to_group: group.to_owned(),
        client_message_id: unique_id().to_vec().into(),
        body: text_body(text),
        recipients: recipients.iter().map(ToString::to_string).collect(),
        ..Send::default()
    }
}

fn say(client: &mut Client, send: &Send) -> Answer<SendReply> {
    client.call(Command::Send, send)
}

fn conversation(group: &str) -> Option<Conversation> {
    Some(Conversation { group: group.to_owned(), ..Conversation::default() })
}

/// Texts of what comes up to `last`, and of what is changed meanwhile.
fn heard_until(client: &mut Client, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        if let What::Message(message) | What::Changed(message) = client.next_event()
            && !message.from.is_empty()
        {
            heard.push(message.text());
            if heard.last().is_some_and(|text| text == last) {
                return heard;
            }
        }
    }
}

fn texts_of_history(client: &mut Client, group: &str) -> Vec<String> {
    let messages = client.group_history(group).expect("history").messages;
    messages.iter().filter(|message| !message.from.is_empty()).map(MessageExt::text).collect()
}

/// Everything that can be done with a message by its place, and what it comes to.
fn tried(client: &mut Client, group: &str, seq: u64) -> [Result<(), Option<ErrorCode>>; 4] {
    let (conversation, body) = (conversation(group), text_body("mine"));
    let read = GetExtensions { conversation: conversation.clone(), seq, ..GetExtensions::default() };
    let pin = Pin { conversation: conversation.clone(), seq, unpin: false };
    let edit = Edit { conversation: conversation.clone(), seq, body };
    let receipts = SendReceipts { conversation, seqs: vec![seq] };
    [
        client.call::<GetExtensionsReply>(Command::GetExtensions, &read).map(drop),
        client.call::<Done>(Command::Pin, &pin).map(drop),
        client.call::<MessageReply>(Command::Edit, &edit).map(drop),
        client.call::<Done>(Command::SendReceipts, &receipts).map(drop),
    ]
    .map(|answer| answer.map_err(|refusal| refusal.code()))
}

#[test]
fn grp_26_what_is_for_some_members_the_others_never_see() {
    for fanout_max in [200, 1] {
        seen_by_some(fanout_max);
    }
}

/// `fanout_max`: in larger groups there is one log for all.
fn seen_by_some(fanout_max: u32) {
    let gateway = Gateway::builder().more_settings(&json!({ "group_fanout_max": fanout_max })).start();
    let [mut anna, mut ben, mut carl, mut dan] = ["anna", "ben", "carl", "dan"].map(|user| gateway.login(user));
    let group = anna.create_group(GroupType::Meeting, &[]);
    for member in [&mut ben, &mut carl] {
        member.join_group(&group).expect("joined");
    }
    let before = carl.cursor.clone();
    assert_eq!(anna.send_to_group(&group, "one").expect("sent").seq, 1);
    let private = Send { need_receipt: true, ..to_some(&group, "for ben", &["ben", "dan", "anna"]) };
    let sent = say(&mut anna, &private).expect("sent");
    assert_eq!(sent.seq, 2, "it has a place like others");
    assert!(say(&mut anna, &private).expect("sent").duplicate);

    // Whatever happens with it later is theirs, too.
    let edit = Edit { conversation: conversation(&group), seq: 2, body: text_body("for ben, again") };
    let edited = anna.call::<MessageReply>(Command::Edit, &edit).expect("edited").message.expect("a message");
    assert_eq!((edited.recipients.as_slice(), edited.receivers), (&["ben".to_owned()][..], 1));
    // By an edit it mentions nobody either: they would be told of what they can't see.
    let mentioning = Body { mention_all: true, ..Body::decode(text_body("x")).expect("a body") };
    let wrong = Edit { body: mentioning.encode_to_vec().into(), ..edit };
    let refused = anna.call::<MessageReply>(Command::Edit, &wrong).map_err(|refusal| refusal.code());
    assert_eq!(refused, Err(Some(ErrorCode::ARGUMENT_INVALID)));
    anna.call::<Done>(Command::Pin, &Pin { conversation: conversation(&group), seq: 2, unpin: false }).expect("pinned");
    assert_eq!(say(&mut anna, &to_some(&group, "for carl", &["carl"])).expect("sent").seq, 3);
    assert_eq!(anna.send_to_group(&group, "four").expect("sent").seq, 4);
    dan.join_group(&group).expect("joined");

    let of_ben = heard_until(&mut ben, "four");
    assert_eq!(of_ben, ["one", "for ben", "for ben, again", "four"]);
    assert_eq!(heard_until(&mut carl, "four"), ["one", "for carl", "four"]);
    assert_eq!(texts_of_history(&mut anna, &group), ["one", "for ben, again", "for carl", "four"]);
    assert_eq!(texts_of_history(&mut ben, &group), ["one", "for ben, again", "four"]);
    assert_eq!(texts_of_history(&mut carl, &group), ["one", "for carl", "four"]);
    assert_eq!(texts_of_history(&mut dan, &group), ["one", "four"], "who comes later sees what was for all");
    let unread = |client: &mut Client| client.group_entry(&group).unread;
    assert_eq!([unread(&mut ben), unread(&mut carl)], [2, 2], "only what was for all");

    let unknown = || Err(Some(ErrorCode::GROUP_MESSAGE_UNKNOWN));
    for stranger in [&mut carl, &mut dan] {
        assert_eq!(tried(stranger, &group, 2), [unknown(), unknown(), unknown(), unknown()]);
        let pinned = GetPinned { conversation: conversation(&group) };
        assert_eq!(stranger.call::<GetPinnedReply>(Command::GetPinned, &pinned).expect("read").pinned, []);
    }
    let [read, pin, edit, receipt] = tried(&mut ben, &group, 2);
    assert_eq!([read, pin, receipt], [Ok(()), Ok(()), Ok(())]);
    assert!(edit.is_err(), "it is anna's");

    // Who was away finds his own, and nothing else, in his log.
    carl.cursor = before;
    let caught_up = carl.catch_up();
    let caught_up: Vec<String> =
        caught_up.iter().filter(|message| !message.from.is_empty()).map(MessageExt::text).collect();
    assert_eq!(caught_up, ["one", "for carl", "four"]);
    let recall = Recall { conversation: conversation(&group), seq: 2, reason: String::new() };
    anna.call::<MessageReply>(Command::Recall, &recall).expect("recalled");
    anna.send_to_group(&group, "five").expect("sent");
    assert_eq!(heard_until(&mut carl, "five"), ["five"]);
    assert_eq!(heard_until(&mut ben, "five"), ["", "five"]);
    gateway.kill().check_store();
}

#[test]
fn grp_26_recipients_are_members_of_a_group_and_few() {
    let gateway = Gateway::start();
    let [mut anna, mut ben] = ["anna", "ben"].map(|user| gateway.login(user));
    gateway.login("zoe");
    let group = anna.create_group(GroupType::Work, &["ben"]);
    let room = anna.create_group(GroupType::Avchatroom, &[]);
    let many: Vec<String> = (0..51).map(|n| format!("user{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mentioning = Body { mention_all: true, ..Body::decode(text_body("x")).expect("a body") };
    let mentioning = Send { body: mentioning.encode_to_vec().into(), ..to_some(&group, "x", &["ben"]) };
    let to_user = Send { to_user: "ben".into(), to_group: String::new(), ..to_some(&group, "x", &["ben"]) };
    for wrong in [
        to_some(&group, "x", &["zoe"]),
        to_some(&group, "x", &["anna"]),
        to_some(&group, "x", &many),
        to_some(&room, "x", &["ben"]),
        mentioning,
        to_user,
    ] {
        let refused = say(&mut anna, &wrong).map_err(|refusal| refusal.code());
        assert_eq!(refused, Err(Some(ErrorCode::ARGUMENT_INVALID)), "{wrong:?}");
    }
    let now_or_never = Send { online_only: true, ..to_some(&group, "now or never", &["ben"]) };
    assert_eq!(say(&mut anna, &now_or_never).expect("sent").seq, 0);
    assert_eq!(ben.next_online_message().text(), "now or never");
    assert_eq!(say(&mut ben, &to_some(&group, "x", &["anna"])).expect("sent").seq, 1);
}

#[test]
fn con_10_the_application_tells_some_members_alone() {
    let gateway = Gateway::start();
    let api = gateway.api();
    let [mut anna, mut ben] = ["anna", "ben"].map(|user| gateway.login(user));
    let group = anna.create_group(GroupType::Work, &["ben"]);
    let said =
        json!({ "GroupId": group, "Random": 1, "To_Account": ["ben"], "MsgBody": super::api_messages::text("psst") });
    assert_eq!(api.ok(SEND, said)["MsgSeq"], 1);
    let said = json!({ "GroupId": group, "Random": 2, "MsgBody": super::api_messages::text("all") });
    assert_eq!(api.ok(SEND, said)["MsgSeq"], 2);
    assert_eq!(heard_until(&mut ben, "all"), ["psst", "all"]);
    assert_eq!(heard_until(&mut anna, "all"), ["all"]);
    let read = json!({ "GroupId": group, "ReqMsgNumber": 20 });
    let list = api.ok("group_open_http_svc/group_msg_get_simple", read)["RspMsgList"].clone();
    assert_eq!(list.as_array().expect("a list").len(), 2, "the application sees all");
}
