//! History by time, and around what a user has deleted or cleared (MSG-05, MSG-12).
//!
//! Goal: a page begins at the message that its time names, either way, and paging goes on over gaps to the end.
//! Mechanics: the times that the gateway gave, one less and one more of each. Without it a search by date would land
//! on the wrong day, or paging would end at the first gap.

use protocol::{
    ErrorCode,
    command::Command,
    message::{History, HistoryReply, Message, UpdateConversation},
};
use tests::{Client, Gateway, Options};

fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

/// A gateway where anna has sent ben so many messages, each in a millisecond of its own; and their times.
fn talk(count: u64) -> (Gateway, Client, Vec<u64>) {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.login("anna");
    let mut times: Vec<u64> = Vec::new();
    while (times.len() as u64) < count {
        let sent = anna.send("ben", "x");
        // Where two share a millisecond, the later one is taken away from both.
        if times.last().is_none_or(|last| sent.time_ms > *last) {
            times.push(sent.time_ms);
        } else {
            return talk(count);
        }
    }
    (gateway, anna, times)
}

#[test]
fn msg_05_history_begins_at_a_time_both_ways() {
    let (gateway, mut anna, times) = talk(5);
    let mut ben = gateway.login("ben");
    let all: Vec<u64> = (1..=5).collect();
    for (index, time) in times.iter().enumerate() {
        let (before, from) = (&all[..index], &all[index..]);
        // A message before it may have come in the very millisecond before.
        let since = times.partition_point(|other| *other < time - 1);
        for (what, from_ms, expected) in [
            ("at or after its time", *time, from),
            ("at or after the millisecond before", time - 1, &all[since..]),
            ("after it", time + 1, &all[index + 1..]),
        ] {
            let page = ben.history_at("anna", from_ms, true, 0).expect("a page");
            assert_eq!(seqs(&page.messages), expected, "{what}, message {}", index + 1);
        }
        let backward = |client: &mut Client, from_ms| {
            let mut seqs = seqs(&client.history_at("ben", from_ms, false, 0).expect("a page").messages);
            seqs.reverse();
            seqs
        };
        assert_eq!(backward(&mut anna, *time), all[..=index], "at or before its time");
        assert_eq!(backward(&mut anna, time - 1), before, "before it");
    }
    // Beyond both ends.
    for (from_ms, forward, expected) in
        [(1, true, &all[..]), (1, false, &[]), (u64::MAX, true, &[]), (times[4] + 1, true, &[])]
    {
        assert_eq!(seqs(&anna.history_at("ben", from_ms, forward, 0).expect("a page").messages), expected);
    }
    let newest = anna.history_at("ben", u64::MAX, false, 2).expect("a page");
    assert_eq!((seqs(&newest.messages), newest.more, newest.next_seq), (vec![5, 4], true, 3));
    let empty = anna.history_at("anna", times[0], true, 0).expect("an empty page");
    assert_eq!((empty.messages.len(), empty.more, empty.head_seq), (0, false, 0));
    let both = History { user: "ben".into(), from_seq: 1, from_ms: times[0], ..History::default() };
    let refused = anna.call::<HistoryReply>(Command::History, &both).expect_err("a refusal");
    assert_eq!(refused.code(), Some(ErrorCode::ARGUMENT_INVALID));
}

#[test]
fn msg_05_a_time_skips_what_is_cleared_and_deleted() {
    let (_gateway, mut anna, times) = talk(3);
    let clear = UpdateConversation { clear: true, ..UpdateConversation::default() };
    assert_eq!(anna.update("ben", clear).cleared_seq, 3);
    for _ in 0..3 {
        anna.send("ben", "x");
    }
    anna.delete("ben", &[4]).expect("deleted");
    let page = |client: &mut Client, from_ms, forward| {
        let page = client.history_at("ben", from_ms, forward, 0).expect("a page");
        assert_eq!((page.first_seq, page.head_seq), (4, 6));
        seqs(&page.messages)
    };
    assert_eq!(page(&mut anna, times[0], true), [5, 6]);
    assert!(page(&mut anna, times[2], false).is_empty());
    assert_eq!(page(&mut anna, u64::MAX, false), [6, 5]);
}

#[test]
fn msg_05_msg_12_paging_goes_on_over_deleted_messages_both_ways() {
    let gateway = Gateway::start();
    gateway.login("ben");
    let mut anna = gateway.connect_with("anna", Options { frame_bytes_max: 32_768, ..Options::default() });
    anna.log_in_and_sync();
    for n in 1..=60 {
        // Some large ones, so that pages end by size, too.
        anna.send("ben", &"x".repeat(if n % 7 == 0 { 12_000 } else { 10 }));
    }
    let deleted: Vec<u64> = (5..=42).chain([50, 60]).collect();
    anna.delete("ben", &deleted).expect("deleted");
    let left: Vec<u64> = (1..=60).filter(|seq| !deleted.contains(seq)).collect();
    for forward in [true, false] {
        for limit in [1, 2, 3, 16, 1000] {
            let mut read = Vec::new();
            let mut from = 0;
            for _ in 0..=60 {
                let page = anna.history("ben", from, forward, limit).expect("a page");
                assert!(page.messages.len() <= limit as usize);
                read.extend(seqs(&page.messages));
                from = page.next_seq;
                if !page.more {
                    break;
                }
                assert!(from > 0);
            }
            read.sort_unstable();
            assert_eq!(read, left, "pages of {limit}, forward: {forward}");
        }
    }
    // Everything deleted: one page, and its end.
    anna.delete("ben", &left).expect("deleted");
    for forward in [true, false] {
        let page = anna.history("ben", 0, forward, 3).expect("a page");
        assert_eq!((page.messages.len(), page.more, page.next_seq, page.head_seq), (0, false, 0, 60));
    }
}
