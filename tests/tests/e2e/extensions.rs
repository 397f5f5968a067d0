//! Extensions of messages (reactions and the like), and pinned messages.
//!
//! Goal: both sides change the same keys without overwriting what they have not seen, both learn of every change,
//! and lists stay within their limits, also against races. Mechanics: versions that fit and do not, lists filled to
//! their limits, readers with small frames. Without it one side's reaction could vanish.

use prost::Message as _;
use protocol::{
    ErrorCode,
    message::{Extension, ExtensionChange, ExtensionsChanged, PinChanged, Pinned, SetExtensionsReply, event::What},
};
use tests::{Answer, Client, Gateway, MessageExt, Options, add_extension as set, text_body, unique_id, user};

/// Smallest frame limit that a client may announce.
const FRAME_BYTES: u32 = 32_768;

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Option<ErrorCode> {
    answer.expect_err("a refusal").code()
}

fn remove(key: &str, version: u64) -> ExtensionChange {
    ExtensionChange { remove: true, ..set(key, b"", version) }
}

fn extension(key: &str, value: &'static [u8], version: u64) -> Extension {
    Extension { key: key.to_owned(), value: value.into(), version }
}

/// Makes one change, and gives back the key as it is now, and why it was not changed.
fn change(client: &mut Client, peer: &str, change: ExtensionChange) -> (Extension, u32) {
    let mut results = client.set_extensions(peer, 1, vec![change]).expect("an answer");
    let result = results.pop().expect("one result");
    (result.extension.expect("the key as it is now"), result.code)
}

/// All extensions of message 1, in pages that fit; and how many pages.
fn all(client: &mut Client, peer: &str, frame_bytes: u32) -> (Vec<Extension>, usize) {
    let mut extensions: Vec<Extension> = Vec::new();
    for pages in 1.. {
        let after = extensions.last().map(|extension| extension.key.clone()).unwrap_or_default();
        let page = client.extensions(peer, 1, &after).expect("a page");
        assert!(page.encoded_len() + 16 <= frame_bytes as usize, "a page of {} bytes", page.encoded_len());
        extensions.extend(page.extensions);
        if !page.more {
            return (extensions, pages);
        }
    }
    unreachable!("300 extensions end some time")
}

#[test]
fn both_sides_set_change_and_remove_what_they_have_seen() {
    let gateway = Gateway::start();
    let (mut anna, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    anna.send("ben", "hello");
    assert!(!ben.next_message().extended);
    laptop.next_message();
    let results = ben.set_extensions("anna", 1, vec![set("like", b"1", 0), set("heart", b"2", 0)]).expect("set");
    let set_to: Vec<Extension> = results.into_iter().filter_map(|result| result.extension).collect();
    assert_eq!(set_to, [extension("like", b"1", 1), extension("heart", b"2", 2)], "in the order asked for");
    for (device, peer) in [(&mut anna, "ben"), (&mut laptop, "ben"), (&mut ben, "anna")] {
        let event = ExtensionsChanged { conversation: user(peer), seq: 1, extensions: set_to.clone() };
        assert_eq!(device.next_event(), What::Extensions(event));
    }
    assert_eq!(change(&mut anna, "ben", set("like", b"3", 1)), (extension("like", b"3", 3), 0));
    assert_eq!(change(&mut anna, "ben", remove("heart", 2)), (extension("heart", b"", 0), 0));
    for (what, gone) in [("changed", extension("like", b"3", 3)), ("removed", extension("heart", b"", 0))] {
        let event = |peer| ExtensionsChanged { conversation: user(peer), seq: 1, extensions: vec![gone.clone()] };
        assert_eq!(ben.next_event(), What::Extensions(event("anna")), "{what}");
        assert_eq!(laptop.next_event(), What::Extensions(event("ben")), "{what}");
    }
    let gateway = gateway.restart();
    for (name, peer) in [("anna", "ben"), ("ben", "anna")] {
        let mut client = gateway.login(name);
        assert_eq!(client.extensions(peer, 1, "").expect("a page").extensions, [extension("like", b"3", 3)]);
        let message = client.conversation(peer).remove(0);
        assert_eq!((message.extended, message.text()), (true, "hello".to_owned()));
    }
}

#[test]
fn a_change_to_another_version_is_a_conflict_and_changes_nothing() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    anna.send("ben", "hello");
    let conflict = ErrorCode::EXTENSION_CONFLICT.0;
    assert_eq!(change(&mut anna, "ben", set("k", b"1", 7)), (extension("k", b"", 0), conflict), "not there");
    assert_eq!(change(&mut anna, "ben", remove("k", u64::MAX)), (extension("k", b"", 0), conflict), "not there");
    assert_eq!(change(&mut anna, "ben", set("k", b"1", 0)), (extension("k", b"1", 1), 0));
    for wrong in [0, 2, u64::MAX] {
        assert_eq!(change(&mut ben, "anna", set("k", b"2", wrong)), (extension("k", b"1", 1), conflict));
        assert_eq!(change(&mut ben, "anna", remove("k", wrong)), (extension("k", b"1", 1), conflict));
    }
    // One conflict does not hold the others up.
    let results = ben.set_extensions("anna", 1, vec![set("k", b"2", 0), set("l", b"2", 0)]).expect("an answer");
    assert_eq!(results.iter().map(|result| result.code).collect::<Vec<_>>(), [conflict, 0]);
    // Removed and set again, it is another one: who saw the first has not seen this.
    assert_eq!(change(&mut ben, "anna", remove("k", 1)).1, 0);
    let again = change(&mut ben, "anna", set("k", b"again", 0)).0;
    assert!(again.version > 2, "a version is given once: {again:?}");
    assert_eq!(change(&mut anna, "ben", set("k", b"late", 1)), (again, conflict));
}

#[test]
fn of_changes_made_at_the_same_time_one_wins() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    anna.send("ben", "hello");
    let race = |client: &mut Client, peer: &str, value: &[u8]| -> Vec<u32> {
        let asked = |version| protocol::message::SetExtensions {
            conversation: user(peer),
            seq: 1,
            changes: vec![set("k", value, version)],
        };
        let command = protocol::command::Command::SetExtensions;
        (0..20).map(|_| client.request(command, &asked(0))).collect()
    };
    let requests = [race(&mut anna, "ben", b"anna"), race(&mut ben, "anna", b"ben")];
    let mut winners = 0;
    for (client, requests) in [&mut anna, &mut ben].into_iter().zip(requests) {
        for request in requests {
            let reply: SetExtensionsReply = client.answer(request).expect("an answer");
            winners += reply.results.iter().filter(|result| result.code == 0).count();
        }
    }
    assert_eq!(winners, 1);
    assert_eq!(anna.extensions("ben", 1, "").expect("a page").extensions[0].version, 1);
}

#[test]
fn extensions_have_limits_and_pages_fit_the_reader() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    anna.send("ben", "hello");
    let value = [7; 1024];
    let key = |n: usize| format!("{n:03}{}", "k".repeat(97));
    for chunk in 0..15 {
        let changes = (chunk * 20..chunk * 20 + 20).map(|n| set(&key(n), &value, 0)).collect();
        let results = anna.set_extensions("ben", 1, changes).expect("set");
        assert!(results.iter().all(|result| result.code == 0));
    }
    let full = ErrorCode::LIST_FULL.0;
    let results = anna.set_extensions("ben", 1, vec![set("more", b"x", 0), set(&key(3), b"changed", 4)]);
    let results = results.expect("an answer");
    assert_eq!(results.iter().map(|result| result.code).collect::<Vec<_>>(), [full, 0], "changes go on");
    // Room is made and taken in one request.
    let results = anna.set_extensions("ben", 1, vec![remove(&key(0), 1), set("more", b"x", 0)]).expect("an answer");
    assert!(results.iter().all(|result| result.code == 0));
    assert_eq!(change(&mut anna, "ben", set("even more", b"x", 0)).1, full);

    let names: Vec<String> = (1..300).map(key).chain(["more".to_owned()]).collect();
    for frame_bytes_max in [65_536, FRAME_BYTES] {
        let mut ben = gateway.connect_with("ben", Options { frame_bytes_max, ..Options::default() });
        ben.log_in_and_sync();
        let (extensions, pages) = all(&mut ben, "anna", frame_bytes_max);
        assert_eq!(extensions.iter().map(|extension| extension.key.clone()).collect::<Vec<_>>(), names);
        assert!(pages > 1, "{pages} pages");
        assert!(ben.extensions("anna", 1, "more").expect("a page").extensions.is_empty());
    }
}

#[test]
fn changes_of_extensions_that_are_wrong_are_refused() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    anna.send("ben", "hello");
    anna.send("ben", "recalled");
    anna.recall("ben", 2, "").expect("recalled");
    let good = || set("k", b"1", 0);
    let many = (0..21).map(|n| set(&n.to_string(), b"", 0)).collect();
    for (what, seq, changes, expected) in [
        ("none", 1, vec![], ErrorCode::ARGUMENT_INVALID),
        ("21", 1, many, ErrorCode::ARGUMENT_INVALID),
        ("no key", 1, vec![good(), set("", b"", 0)], ErrorCode::ARGUMENT_INVALID),
        ("a key of 101 bytes", 1, vec![good(), set(&"k".repeat(101), b"", 0)], ErrorCode::ARGUMENT_INVALID),
        ("a value of 1025 bytes", 1, vec![good(), set("l", &[0; 1025], 0)], ErrorCode::ARGUMENT_INVALID),
        ("a key twice", 1, vec![good(), good()], ErrorCode::ARGUMENT_INVALID),
        ("an unknown message", 3, vec![good()], ErrorCode::MESSAGE_UNKNOWN),
        ("the greatest sequence", u64::MAX, vec![good()], ErrorCode::MESSAGE_UNKNOWN),
        ("a recalled message", 2, vec![good()], ErrorCode::MESSAGE_RECALLED),
    ] {
        assert_eq!(code(ben.set_extensions("anna", seq, changes)), Some(expected), "{what}");
    }
    assert_eq!(code(carl.set_extensions("anna", 1, vec![good()])), Some(ErrorCode::MESSAGE_UNKNOWN), "a stranger");
    assert!(anna.extensions("ben", 1, "").expect("a page").extensions.is_empty(), "nothing was set");
    ben.set_extensions("anna", 1, vec![good()]).expect("set");
    assert!(carl.extensions("anna", 1, "").expect("a page").extensions.is_empty(), "a stranger reads nothing");
    assert!(ben.extensions("anna", u64::MAX, "").expect("a page").extensions.is_empty());
}

fn pinned_seqs(pinned: &[Pinned]) -> Vec<u64> {
    pinned.iter().filter_map(|pinned| Some(pinned.message.as_ref()?.seq)).collect()
}

#[test]
fn messages_are_pinned_for_both_sides_and_unpinned_by_either() {
    let gateway = Gateway::start();
    let (mut anna, mut laptop, mut ben) = (gateway.login("anna"), gateway.login("anna"), gateway.login("ben"));
    for n in 1..=3 {
        anna.send("ben", &n.to_string());
        assert_eq!((laptop.next_message().seq, ben.next_message().seq), (n, n));
    }
    let event = |peer, seq, by: &str, unpinned| {
        What::Pin(PinChanged { conversation: user(peer), seq, by: by.to_owned(), unpinned })
    };
    anna.pin("ben", 3, false).expect("pinned");
    assert_eq!(
        [anna.next_event(), laptop.next_event(), ben.next_event()],
        [event("ben", 3, "anna", false), event("ben", 3, "anna", false), event("anna", 3, "anna", false)]
    );
    ben.pin("anna", 1, false).expect("pinned");
    assert_eq!(
        [anna.next_event(), laptop.next_event(), ben.next_event()],
        [event("ben", 1, "ben", false), event("ben", 1, "ben", false), event("anna", 1, "ben", false)]
    );
    // As it is already: nobody is told.
    ben.pin("anna", 3, false).expect("pinned before");
    ben.pin("anna", 2, true).expect("not pinned anyway");
    let pinned = anna.pinned("ben");
    assert_eq!(pinned, ben.pinned("anna"));
    assert_eq!(pinned_seqs(&pinned), [1, 3]);
    assert_eq!(pinned.iter().map(|pinned| pinned.by.as_str()).collect::<Vec<_>>(), ["ben", "anna"]);
    assert!(pinned.iter().all(|pinned| pinned.time_ms > 0));
    ben.pin("anna", 3, true).expect("unpinned");
    assert_eq!([anna.next_event(), laptop.next_event()], [event("ben", 3, "ben", true), event("ben", 3, "ben", true)]);
    // A recalled message stays pinned, without its words, and can be unpinned.
    anna.send("ben", "4");
    anna.pin("ben", 4, false).expect("pinned");
    anna.recall("ben", 4, "").expect("recalled");
    let gateway = gateway.restart();
    let mut anna = gateway.login("anna");
    let pinned = anna.pinned("ben");
    assert_eq!(pinned_seqs(&pinned), [1, 4]);
    assert!(pinned[1].message.as_ref().is_some_and(|message| message.recalled.is_some() && message.body.is_empty()));
    anna.pin("ben", 4, true).expect("unpinned");
    assert_eq!(pinned_seqs(&anna.pinned("ben")), [1]);
}

#[test]
fn pins_that_are_wrong_or_too_many_are_refused() {
    let gateway = Gateway::start();
    let (mut anna, mut ben, mut carl) = (gateway.login("anna"), gateway.login("ben"), gateway.login("carl"));
    for n in 1..=12 {
        anna.send("ben", &n.to_string());
    }
    anna.recall("ben", 12, "").expect("recalled");
    for seq in 1..=9 {
        anna.pin("ben", seq, false).expect("pinned");
    }
    for (what, seq, expected) in [
        ("unknown", 13, ErrorCode::MESSAGE_UNKNOWN),
        ("sequence 0", 0, ErrorCode::MESSAGE_UNKNOWN),
        ("the greatest", u64::MAX, ErrorCode::MESSAGE_UNKNOWN),
        ("recalled", 12, ErrorCode::MESSAGE_RECALLED),
    ] {
        assert_eq!(code(ben.pin("anna", seq, false)), Some(expected), "{what}");
    }
    ben.pin("anna", u64::MAX, true).expect("not pinned anyway");
    ben.pin("anna", 10, false).expect("the tenth");
    assert_eq!(code(ben.pin("anna", 11, false)), Some(ErrorCode::LIST_FULL));
    ben.pin("anna", 10, false).expect("pinned before");
    anna.pin("ben", 1, true).expect("unpinned");
    ben.pin("anna", 11, false).expect("there is room again");
    assert_eq!(pinned_seqs(&anna.pinned("ben")), (2..=11).collect::<Vec<_>>());
    assert_eq!(code(carl.pin("anna", 1, false)), Some(ErrorCode::MESSAGE_UNKNOWN), "a stranger");
    assert!(carl.pinned("anna").is_empty());
}

#[test]
fn pinned_messages_that_one_has_deleted_or_cleared_are_not_shown_to_oneself() {
    let gateway = Gateway::start();
    let (mut anna, mut ben) = (gateway.login("anna"), gateway.login("ben"));
    for n in 1..=3 {
        anna.send("ben", &n.to_string());
        anna.pin("ben", n, false).expect("pinned");
    }
    ben.delete("anna", &[2]).expect("deleted");
    assert_eq!(pinned_seqs(&ben.pinned("anna")), [1, 3]);
    ben.update("anna", protocol::message::UpdateConversation { clear: true, ..Default::default() });
    assert!(ben.pinned("anna").is_empty());
    assert_eq!(pinned_seqs(&anna.pinned("ben")), [1, 2, 3]);
}

#[test]
fn pinned_messages_fit_the_frame_of_the_reader() {
    let gateway = Gateway::start();
    let [one, other] = ["n".repeat(32), "o".repeat(32)];
    gateway.login(&other);
    let mut sender = gateway.login(&one);
    // Together a little less than a frame, with what is around them a little more.
    let sizes = [12_288, 12_288, 7_000, 400, 10, 10, 10, 10, 10, 10];
    for (size, seq) in sizes.into_iter().zip(1..) {
        let body = text_body(&"x".repeat(size - 9));
        sender.send_as(&other, &[unique_id(), unique_id()].concat(), body).expect("sent");
        sender.pin(&other, seq, false).expect("pinned");
    }
    let options = Options { frame_bytes_max: FRAME_BYTES, ..Options::default() };
    let mut reader = gateway.connect_with(&other, options);
    reader.log_in_and_sync();
    let pinned = reader.pinned(&one);
    assert_eq!(pinned_seqs(&pinned), (1..=10).collect::<Vec<_>>(), "all of them, some without their body");
    let reply = protocol::message::GetPinnedReply { pinned };
    assert!(reply.encoded_len() + 16 <= FRAME_BYTES as usize, "{} bytes", reply.encoded_len());
    let bodies =
        reply.pinned.iter().filter(|pinned| pinned.message.as_ref().is_some_and(|message| !message.body.is_empty()));
    assert!(bodies.count() >= 2);
}
