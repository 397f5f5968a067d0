//! What each command does: decode, hand to the domain, answer.
//!
//! Nothing here blocks or decides: the domain decides, on the store's threads. A send is handed to the
//! send queue and answered by mail; the other commands wait in a task of their own, so that one slow
//! answer does not hold up the rest of the connection.

use std::rc::Rc;

use backend::{
    domain::{
        UserId, account,
        message::NewMessage,
        sync::{self, HistoryQuery, PageLimit},
    },
    store::Versionstamp,
};
use bytes::Bytes;
use futures::channel::oneshot;
use prost::Message;
use protocol::{
    ErrorCode,
    command::Command,
    message::{Event, History, HistoryReply, Login, LoginReply, Send, Sync, SyncReply, event::What},
};

use super::{connection::Connection, session::Session};
use crate::{errors::Refusal, mailbox::Mail, router::Origin, shared::Shared};

/// What clients are told when the server drains: spread out, so that they don't all return at once.
pub(super) const DRAIN_RETRY_AFTER_MS: u32 = 1_000;

/// Entries of a page when the client leaves it to the server, and at the most.
const PAGE_ENTRIES_DEFAULT: u32 = 200;
const PAGE_ENTRIES_MAX: u32 = 1_000;

/// Bytes of an answer around its page.
const PAGE_OVERHEAD_BYTES: usize = 256;

/// Longest device name, in bytes.
const DEVICE_BYTES_MAX: usize = 64;

/// Handles one request.
pub(super) fn handle(connection: &Rc<Connection>, request: u32, command: Command, payload: Bytes) {
    let result = match command {
        Command::Login => decode(payload).and_then(|login| start_login(connection, request, login)),
        Command::Send => decode(payload).and_then(|send| start_send(connection, request, send)),
        Command::Sync => decode(payload).and_then(|sync| start_sync(connection, request, sync)),
        Command::History => decode(payload).and_then(|history| start_history(connection, request, history)),
    };
    if let Err(refusal) = result {
        connection.refuse(request, refusal);
    }
}

fn decode<M: Message + Default>(payload: Bytes) -> Result<M, Refusal> {
    M::decode(payload).map_err(|_| ErrorCode::PAYLOAD_INVALID.into())
}

fn start_login(connection: &Rc<Connection>, request: u32, login: Login) -> Result<(), Refusal> {
    if login.device.len() > DEVICE_BYTES_MAX {
        return Err(invalid("device must have at most 64 bytes"));
    }
    if !connection.login_started() {
        return Err(ErrorCode::ALREADY_LOGGED_IN.into());
    }
    let connection = connection.clone();
    connection
        .core
        .clone()
        .spawn(async move {
            match log_in(&connection, &login).await {
                Ok(()) => {
                    connection.core.metrics.logins.increment(1);
                    let reply = LoginReply { server_time_ms: connection.core.shared.clock.unix_ms() };
                    connection.with_protocol(|protocol| protocol.respond(request, &reply));
                }
                Err(refusal) => connection.login_failed(request, refusal),
            }
        })
        .detach();
    Ok(())
}

async fn log_in(connection: &Rc<Connection>, login: &Login) -> Result<(), Refusal> {
    let core = &connection.core;
    let user = UserId::new(&login.user).ok_or(ErrorCode::USER_INVALID)?;
    let Shared { store, clock, development, .. } = &*core.shared;
    account::login(store, clock, *development, login.sdkappid, &user, login.usersig.clone()).await?;
    // In the online table before anything of the log can be read: see `session`.
    let home = core.shared.router.home(login.sdkappid, &user);
    let (registered, done) = oneshot::channel();
    let address = core.address(connection.id);
    let (app, table_user) = (login.sdkappid, user.clone());
    core.shared.router.mailbox(home).put(Mail::Register { app, user: table_user, address, registered });
    done.await.map_err(|_| ErrorCode::SERVER_DRAINING)?;
    if !connection.logged_in(Session::new(app, user.clone(), home)) {
        core.shared.router.mailbox(home).put(Mail::Unregister { app, user, address });
    }
    Ok(())
}

fn start_send(connection: &Rc<Connection>, request: u32, send: Send) -> Result<(), Refusal> {
    let to = UserId::new(&send.to_user).ok_or(ErrorCode::USER_INVALID)?;
    let (app, from) = identity(connection)?;
    let message = NewMessage { app, from, to, client_message_id: send.client_message_id, body: send.body };
    let origin = Origin { address: connection.core.address(connection.id), request };
    Ok(connection.core.shared.sends.submit(origin, message)?)
}

fn start_sync(connection: &Rc<Connection>, request: u32, sync: Sync) -> Result<(), Refusal> {
    let cursor = match sync.cursor.len() {
        0 => Versionstamp::ZERO,
        _ => Versionstamp::from_slice(&sync.cursor).ok_or(ErrorCode::CURSOR_INVALID)?,
    };
    let (app, user) = identity(connection)?;
    let limit = page_limit(connection, sync.limit)?;
    start_page(connection)?;
    if connection.with_session(Session::sync_started) != Some(true) {
        connection.page_finished();
        return Err(ErrorCode::BUSY.into());
    }
    let connection = connection.clone();
    connection
        .core
        .clone()
        .spawn(async move {
            let page = sync::events(&connection.core.shared.store, app, &user, cursor, limit).await;
            connection.page_finished();
            match page {
                Ok(page) => {
                    let more = connection.with_session(|session| session.sync_finished(page.cursor, page.more));
                    let events = page.events.into_iter().map(|event| Event {
                        position: Bytes::copy_from_slice(&event.position.0),
                        what: Some(What::Message(event.message)),
                    });
                    let cursor = if page.cursor == Versionstamp::ZERO {
                        Bytes::new()
                    } else {
                        Bytes::copy_from_slice(&page.cursor.0)
                    };
                    let reply = SyncReply { events: events.collect(), cursor, more: more.unwrap_or(true) };
                    connection.with_protocol(|protocol| protocol.respond(request, &reply));
                }
                Err(error) => {
                    connection.with_session(Session::sync_failed);
                    connection.refuse(request, error);
                }
            }
        })
        .detach();
    Ok(())
}

fn start_history(connection: &Rc<Connection>, request: u32, history: History) -> Result<(), Refusal> {
    let peer = UserId::new(&history.user).ok_or(ErrorCode::USER_INVALID)?;
    let (app, user) = identity(connection)?;
    let query = HistoryQuery {
        from_seq: (history.from_seq > 0).then_some(history.from_seq),
        forward: history.forward,
        limit: page_limit(connection, history.limit)?,
    };
    start_page(connection)?;
    let connection = connection.clone();
    connection
        .core
        .clone()
        .spawn(async move {
            let page = sync::history(&connection.core.shared.store, app, &user, &peer, query).await;
            connection.page_finished();
            match page {
                Ok(page) => {
                    let reply = HistoryReply { messages: page.messages, more: page.more, head_seq: page.head_seq };
                    connection.with_protocol(|protocol| protocol.respond(request, &reply));
                }
                Err(error) => connection.refuse(request, error),
            }
        })
        .detach();
    Ok(())
}

/// Who the client is. The protocol lets nobody here before login.
fn identity(connection: &Connection) -> Result<(u32, UserId), Refusal> {
    connection
        .with_session(|session| (session.app, session.user.clone()))
        .ok_or_else(|| ErrorCode::NOT_LOGGED_IN.into())
}

fn start_page(connection: &Connection) -> Result<(), Refusal> {
    if connection.page_started() { Ok(()) } else { Err(ErrorCode::BUSY.into()) }
}

fn page_limit(connection: &Connection, entries: u32) -> Result<PageLimit, Refusal> {
    let entries = match entries {
        0 => PAGE_ENTRIES_DEFAULT,
        1..=PAGE_ENTRIES_MAX => entries,
        _ => return Err(invalid("limit must be at most 1000")),
    };
    let bytes_max = connection.answer_bytes_max().saturating_sub(PAGE_OVERHEAD_BYTES);
    Ok(PageLimit { entries_max: entries as usize, bytes_max })
}

fn invalid(text: &'static str) -> Refusal {
    Refusal { text: text.to_owned(), ..ErrorCode::ARGUMENT_INVALID.into() }
}
