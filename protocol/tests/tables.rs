//! WIRE.md says what the code does.
//!
//! Goal: whoever writes an SDK from the text gets the numbers of the code. Mechanics: each table that follows
//! a `<!-- table: name -->` line is compared with the code's, row by row, and the messages with im.proto.
//! What breaks without it: a row is added to the code, and nobody outside learns of it.

#![allow(clippy::unwrap_used)]

use protocol::{
    ErrorCode,
    command::{Command, Topic},
    connection::ServerLimits,
    frame::Kind,
};

const WIRE: &str = include_str!("../../WIRE.md");

/// The cells of the table behind its marker, without the header; backticks are left out.
fn table(name: &str) -> Vec<Vec<String>> {
    let marker = format!("<!-- table: {name} -->\n");
    assert_eq!(WIRE.matches(&marker).count(), 1, "{marker}");
    let (_, behind) = WIRE.split_once(&marker).unwrap();
    let rows = behind.lines().take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

/// The first `columns` cells of each row.
fn left(name: &str, columns: usize) -> Vec<Vec<String>> {
    table(name).into_iter().map(|row| row.into_iter().take(columns).collect()).collect()
}

fn row<const N: usize>(cells: [&dyn std::fmt::Display; N]) -> Vec<String> {
    cells.iter().map(|cell| cell.to_string()).collect()
}

#[test]
fn kinds() {
    let code: Vec<_> = Kind::TABLE.iter().map(|(_, code, name)| row([code, name])).collect();
    assert_eq!(left("kinds", 2), code);
}

#[test]
fn commands() {
    let code: Vec<_> = Command::ALL
        .iter()
        .map(|command| {
            let (request, reply) = command.messages();
            row([&command.code(), &command.name(), &command.access().as_str(), &request, &reply])
        })
        .collect();
    assert_eq!(table("commands"), code);
}

#[test]
fn pushes() {
    let code: Vec<_> = Topic::ALL.iter().map(|topic| row([&topic.code(), &topic.name()])).collect();
    assert_eq!(left("pushes", 2), code);
}

#[test]
fn errors() {
    let retryable = |code: &ErrorCode| if code.is_retryable() { "yes" } else { "no" };
    let code: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| row([&code.0, &code.name().unwrap(), &retryable(code), &code.text()]))
        .collect();
    for (text, code) in table("errors").iter().zip(&code) {
        assert_eq!(text, code);
    }
    assert_eq!(table("errors").len(), code.len());
}

#[test]
fn limits() {
    // Taken apart by name, so that a new limit does not compile before it is in the table.
    let ServerLimits {
        hello_bytes_max,
        login_bytes_max,
        frame_bytes_max,
        frames_before_login_max,
        login_failures_max,
        hello_deadline_ms,
        login_deadline_ms,
        heartbeat_ms_min,
        heartbeat_ms_max,
        heartbeat_ms_default,
        in_flight_max,
        deflate,
    } = ServerLimits::default();
    let code = [
        row([&"hello_bytes_max", &hello_bytes_max]),
        row([&"login_bytes_max", &login_bytes_max]),
        row([&"frame_bytes_max", &frame_bytes_max]),
        row([&"frames_before_login_max", &frames_before_login_max]),
        row([&"login_failures_max", &login_failures_max]),
        row([&"hello_deadline_ms", &hello_deadline_ms]),
        row([&"login_deadline_ms", &login_deadline_ms]),
        row([&"heartbeat_ms_min", &heartbeat_ms_min]),
        row([&"heartbeat_ms_max", &heartbeat_ms_max]),
        row([&"heartbeat_ms_default", &heartbeat_ms_default]),
        row([&"in_flight_max", &in_flight_max]),
        row([&"deflate", &deflate]),
    ];
    assert_eq!(left("limits", 2), code);
}

/// Every error that the text names is one, and the frames it shows are those of golden.json.
#[test]
fn names_and_examples() {
    let names: Vec<_> = ErrorCode::ALL.iter().filter_map(|code| code.name()).collect();
    for quoted in WIRE.split('`').skip(1).step_by(2) {
        let is_name = quoted.contains('_') && quoted.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        let known = names.contains(&quoted) || ["VERSION_MIN", "VERSION_MAX"].contains(&quoted);
        assert!(!is_name || known, "{quoted} is no error");
    }
    let golden: serde_json::Value = serde_json::from_str(include_str!("../vectors/golden.json")).unwrap();
    let examples = table("examples");
    assert!(!examples.is_empty());
    for example in examples {
        let frames = golden["frames"].as_array().unwrap();
        let vector = frames.iter().find(|vector| vector["name"] == example[0].as_str()).unwrap();
        assert_eq!(vector["hex"].as_str().unwrap(), example[1].replace(' ', ""), "{}", example[0]);
    }
}

#[test]
fn messages_are_those_of_im_proto() {
    let (_, behind) = WIRE.split_once("```proto\n").unwrap();
    let (quoted, _) = behind.split_once("```").unwrap();
    let proto = include_str!("../proto/im.proto");
    for (ours, theirs) in quoted.lines().zip(proto.lines()) {
        assert_eq!(ours, theirs, "WIRE.md ends with a copy of protocol/proto/im.proto");
    }
    assert_eq!(quoted, proto);
}
