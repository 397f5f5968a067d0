//! `open_msg_svc`: all messages of an hour as a file (MSG-01), and the links by which such files are fetched.
//!
//! A link names its application, hour and file, and is signed with the application's key; any node can check it.

use std::sync::Arc;

use backend::domain::{
    AppId,
    hourly::{self, Chat, HourFile, Layout, Link},
};
use bytes::Bytes;
use futures::stream;
use hyper::{StatusCode, header, http::request::Parts};
use prost::Message as _;
use protocol::message::{Body, Message};
use serde_json::{Value, json};

use super::{
    answers::object,
    beijing,
    call::{self, Api, Call, Query},
    codes::{self, of_history},
    elements,
    fields::Fields,
    msg_key::{MsgKey, random_of},
    table::Outcome,
};

/// What links begin with, behind the host.
pub const PATH: &str = "/msg_history/";

/// Files are made of the hours of so many days.
const DAYS: u32 = 7;

const HOUR_S: u64 = 3_600;

/// Makes the file of an hour, unless it is there, and a link to it.
pub async fn history(call: &Call<'_>, fields: Fields<'_>) -> Outcome {
    let text = |field| fields.required_text(field).map_err(|wrong| codes::HISTORY_ARGUMENT.because(wrong));
    let msg_time = text("MsgTime")?;
    let hour = beijing::parse_hour(msg_time).ok_or(codes::HISTORY_ARGUMENT)?;
    let chat = chat_of(text("ChatType")?).ok_or(codes::HISTORY_ARGUMENT)?;
    let shared = call.shared();
    let now_s = shared.clock.unix_ms() / 1000;
    let this_hour = u32::try_from(now_s / HOUR_S).unwrap_or(u32::MAX);
    let oldest = this_hour.saturating_sub(DAYS * 24);
    if hour < oldest {
        return Err(codes::HISTORY_EXPIRED.into());
    }
    if hour >= this_hour {
        return Err(codes::HISTORY_NONE.into());
    }
    let layout = Arc::new(MsgList { app: call.app, chat, msg_time: msg_time.to_owned() });
    let file = {
        let _making = call.api.file_making.lock().await;
        hourly::file(&shared.store, &call.api.rng, call.app, (chat, hour), oldest, layout).await
    };
    let file = file.map_err(|error| of_history(&error))?.ok_or(codes::HISTORY_NONE)?;
    let expires_s = now_s + u64::from(shared.config.api.link_hours) * HOUR_S;
    let link = Link { app: call.app, chat, hour, attempt: file.attempt };
    let sign = link.sign(&shared.store, now_s, expires_s - now_s).await.map_err(|error| of_history(&error))?;
    let HourFile { bytes, md5, gzip_bytes, gzip_md5, attempt, .. } = file;
    let url = format!("https://{}{PATH}{}/{}/{hour}/{attempt}.gz?sign={sign}", call.host, call.app, chat_name(chat));
    let file = json!({
        "URL": url, "ExpireTime": beijing::time(expires_s), "FileSize": bytes, "FileMD5": hex(&md5),
        "GzipSize": gzip_bytes, "GzipMD5": hex(&gzip_md5),
    });
    object(json!({ "File": [file] }))
}

/// Hands a file out to whoever has a good link.
pub async fn fetch(api: &Arc<Api>, parts: &Parts) -> call::Reply {
    let found = find(api, parts).await;
    let code = found.as_ref().map_or_else(|status| *status, |_| StatusCode::OK);
    metrics::counter!("gateway_api_files_total", "status" => code.as_u16().to_string()).increment(1);
    let (link, file) = match found {
        Ok(found) => found,
        Err(status) => return call::empty_reply(status),
    };
    let store = api.shared.store.clone();
    let pieces = stream::unfold(0, move |number| {
        let store = store.clone();
        async move {
            if number == file.chunks {
                return None;
            }
            // Its length tells the client that it was cut short.
            let piece = hourly::chunk(&store, link.app, link.hour, link.attempt, number).await.ok()?;
            Some((piece, number + 1))
        }
    });
    let mut reply = call::stream_reply(pieces);
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/gzip"));
    headers.insert(header::CONTENT_LENGTH, file.gzip_bytes.into());
    reply
}

async fn find(api: &Arc<Api>, parts: &Parts) -> Result<(Link, HourFile), StatusCode> {
    let link = parse(parts.uri.path()).ok_or(StatusCode::NOT_FOUND)?;
    let query = Query::of(parts.uri.query().unwrap_or_default()).ok_or(StatusCode::BAD_REQUEST)?;
    let sign = query.get("sign").ok_or(StatusCode::FORBIDDEN)?;
    let shared = &api.shared;
    let now_s = shared.clock.unix_ms() / 1000;
    link.check(&shared.store, sign.to_owned(), now_s).await.map_err(|_| StatusCode::FORBIDDEN)?;
    let file = hourly::find(&shared.store, link.app, link.chat, link.hour)
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let file = file.filter(|file| file.attempt == link.attempt).ok_or(StatusCode::NOT_FOUND)?;
    Ok((link, file))
}

/// The published name of the kind of messages.
fn chat_name(chat: Chat) -> &'static str {
    match chat {
        Chat::OneToOne => "C2C",
        Chat::Groups => "Group",
    }
}

fn chat_of(name: &str) -> Option<Chat> {
    [Chat::OneToOne, Chat::Groups].into_iter().find(|chat| chat_name(*chat) == name)
}

/// `/msg_history/<app>/<chat>/<hour>/<attempt>.gz`.
fn parse(path: &str) -> Option<Link> {
    let mut parts = path.strip_prefix(PATH)?.strip_suffix(".gz")?.split('/');
    let mut next = || parts.next();
    let (app, chat) = (next()?.parse().ok()?, chat_of(next()?)?);
    let link = Link { app, chat, hour: next()?.parse().ok()?, attempt: next()?.parse().ok()? };
    next().is_none().then_some(link)
}

/// The file: one JSON object with a list of messages.
struct MsgList {
    app: AppId,
    chat: Chat,
    msg_time: String,
}

impl Layout for MsgList {
    fn head(&self) -> Vec<u8> {
        let (MsgList { app, msg_time, .. }, chat) = (self, chat_name(self.chat));
        format!(r#"{{"AppId":"{app}","ChatType":"{chat}","MsgTime":"{msg_time}","MsgList":["#).into_bytes()
    }

    fn message(&self, message: &Message, first: bool) -> Vec<u8> {
        let separator = if first { "\n" } else { ",\n" };
        let written = match self.chat {
            Chat::OneToOne => message_to_json(message),
            Chat::Groups => group_message_to_json(message),
        };
        format!("{separator}{written}").into_bytes()
    }

    fn tail(&self) -> Vec<u8> {
        b"\n]}\n".to_vec()
    }
}

fn message_to_json(message: &Message) -> Value {
    let key = MsgKey::of(message);
    let body = Body::decode(message.body.clone()).unwrap_or_default();
    json!({
        "From_Account": message.from, "To_Account": message.to, "MsgTimestamp": key.time_s, "MsgSeq": key.seq,
        "MsgRandom": key.random, "MsgKey": key.to_string(), "MsgBody": elements::to_json(&body.elements),
        "CloudCustomData": elements::cloud_custom_data(&body),
    })
}

fn group_message_to_json(message: &Message) -> Value {
    let body = Body::decode(message.body.clone()).unwrap_or_default();
    json!({
        "From_Account": message.from, "GroupId": message.group, "MsgTimestamp": message.time_ms / 1000,
        "MsgSeq": message.seq, "MsgRandom": random_of(&message.client_message_id),
        "MsgBody": elements::to_json(&body.elements), "CloudCustomData": elements::cloud_custom_data(&body),
    })
}

fn hex(bytes: &Bytes) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
