//! Every payload message: any bytes decode or don't, and what decoded encodes to its announced length and
//! decodes to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use protocol::message::*;

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    match which % 17 {
        0 => check::<Hello>(bytes),
        1 => check::<Welcome>(bytes),
        2 => check::<GoAway>(bytes),
        3 => check::<Pong>(bytes),
        4 => check::<Failure>(bytes),
        5 => check::<Login>(bytes),
        6 => check::<LoginReply>(bytes),
        7 => check::<Send>(bytes),
        8 => check::<SendReply>(bytes),
        9 => check::<Body>(bytes),
        10 => check::<Event>(bytes),
        11 => check::<EventPush>(bytes),
        12 => check::<Sync>(bytes),
        13 => check::<SyncReply>(bytes),
        14 => check::<History>(bytes),
        15 => check::<HistoryReply>(bytes),
        _ => check::<protocol::message::Message>(bytes),
    }
});

fn check<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    let encoded = message.encode_to_vec();
    assert_eq!(encoded.len(), message.encoded_len());
    assert_eq!(M::decode(&encoded[..]).expect("what was encoded"), message);
}
