//! An application's own server is asked about what a message becomes by an edit (CON-06, MSG-06).
//!
//! Goal: nobody says by an edit what he may not say at once. Mechanics: as in `callbacks`. Without it a filter of words is
//! passed by whoever sends "x" first.

use protocol::{
    ErrorCode,
    command::Command,
    message::{Conversation, Edit, GroupType, MessageReply},
};
use serde_json::json;
use tests::{Client, Gateway, MessageExt, Receiver, Reply, text_body};

use super::api_messages::text;

const COMMANDS: [&str; 2] = ["C2C.CallbackBeforeSendMsg", "Group.CallbackBeforeSendMsg"];

/// Edits a message; what it says then, or why not.
fn edit(client: &mut Client, conversation: &Conversation, seq: u64, words: &str) -> Result<String, Option<ErrorCode>> {
    let asked = Edit { conversation: Some(conversation.clone()), seq, body: text_body(words) };
    let answer = client.call::<MessageReply>(Command::Edit, &asked).map_err(|refusal| refusal.code())?;
    Ok(answer.message.expect("a message").text())
}

#[test]
fn con_06_an_edit_is_asked_about_like_the_message_that_it_becomes() {
    let receiver = Receiver::start();
    let gateway = Gateway::builder().more_settings(&receiver.settings(&COMMANDS)).start();
    let [mut anna, mut ben] = ["anna", "ben"].map(|user| gateway.login(user));
    let group = anna.create_group(GroupType::Work, &["ben"]);
    let to_ben = Conversation { user: "ben".into(), ..Conversation::default() };
    let to_group = Conversation { group: group.clone(), ..Conversation::default() };
    let seqs = [anna.send("ben", "one").seq, anna.send_to_group(&group, "one").expect("sent").seq];
    let sent = [receiver.next().body, receiver.next().body];
    for ((conversation, seq), sent) in [&to_ben, &to_group].into_iter().zip(seqs).zip(sent) {
        receiver.answer(|_| Reply::ok());
        assert_eq!(edit(&mut anna, conversation, seq, "two"), Ok("two".into()));
        let asked = receiver.next().body;
        for same in ["CallbackCommand", "From_Account", "To_Account", "GroupId", "Random", "MsgRandom"] {
            assert_eq!(asked[same], sent[same], "{same}");
        }
        assert_eq!((&asked["MsgSeq"], &asked["MsgBody"]), (&json!(seq), &text("two")), "{asked}");

        receiver.answer(|_| Reply::code(1, "mind your words"));
        assert!(edit(&mut anna, conversation, seq, "rude").is_err());
        receiver.answer(|_| Reply::code(2, ""));
        assert!(edit(&mut anna, conversation, seq, "rude").is_err(), "it can't be answered as if it were done");
        receiver.answer(|_| Reply::Json(json!({ "ErrorCode": 0, "MsgBody": text("****") })));
        assert_eq!(edit(&mut anna, conversation, seq, "rude"), Ok("****".into()));
        for _ in 0..3 {
            receiver.next();
        }
        // What is not his, or is not there, is nobody's question.
        assert!(edit(&mut ben, conversation, seq, "mine").is_err());
        assert!(edit(&mut anna, conversation, 99, "nothing").is_err());
    }
    // Nor is what an administrator edits.
    let change = json!({ "GroupId": group, "MsgSeq": seqs[1], "MsgBody": text("by the application") });
    gateway.api().ok("openim/modify_group_msg", change);
    receiver.answer(|_| Reply::ok());
    anna.send("ben", "last");
    assert_eq!(receiver.next().body["MsgBody"], text("last"), "nothing else was asked");
    let history = ben.group_history(&group).expect("history").messages;
    assert_eq!(history.last().expect("one").text(), "by the application");
}
