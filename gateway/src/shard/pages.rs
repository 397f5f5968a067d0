//! Requests that read: each waits in a task of its own, so that one slow answer does not hold up the rest
//! of the connection, and counts as a page that the client may have read.

use std::rc::Rc;

use backend::{
    domain::{
        Error, Peer,
        act::Author,
        change::{blacklist, extension},
        conversations::{self, ListPage},
        history::{self, HistoryPage, HistoryQuery, Start},
        merged,
        sync::{self, From, PageLimit},
    },
    store::Versionstamp,
};
use bytes::Bytes;
use prost::Message;
use protocol::{
    ErrorCode,
    message::{
        Conversation, ConversationEntry, Conversations, ConversationsReply, Event, GetBlacklist, GetBlacklistReply,
        GetConversations, GetConversationsReply, GetExtensions, GetExtensionsReply, GetMerged, GetMergedReply,
        GetPinned, GetPinnedReply, GetUnread, GetUnreadReply, History, HistoryReply, Merge, MergeReply, Pinned, Sync,
        SyncReply,
    },
};

use super::{
    acts::{check_send_limit, peer},
    connection::Connection,
    members,
    requests::{identity, invalid, user_id},
    session::Session,
};
use crate::errors::Refusal;

/// Entries of a page when the client leaves it to the server, and at the most.
const PAGE_ENTRIES_DEFAULT: u32 = 200;
const PAGE_ENTRIES_MAX: u32 = 1_000;

/// Entries of a page of the event log, at the most: they are read before it is known how many fit, and an entry
/// may have tens of kilobytes.
const LOG_ENTRIES_MAX: usize = 256;

/// Bytes of an answer around its page.
pub(super) const PAGE_OVERHEAD_BYTES: usize = 256;

/// Bytes of an entry's tag and length in an answer, at the most.
const ENTRY_OVERHEAD_BYTES: usize = 8;

/// Conversations asked for by name in one request, at the most.
const CONVERSATIONS_MAX: usize = 100;

/// Has `read` answer a request.
pub(super) fn answer<R: Message + 'static>(
    connection: &Rc<Connection>,
    request: u32,
    read: impl Future<Output = Result<R, Error>> + 'static,
) -> Result<(), Refusal> {
    start_page(connection)?;
    let task = connection.clone();
    connection.core.spawn_for(connection, async move {
        let reply = read.await;
        task.page_finished();
        match reply {
            Ok(reply) => task.with_protocol(|protocol| protocol.respond(request, &reply)),
            Err(error) => task.refuse(request, error),
        }
    });
    Ok(())
}

pub(super) fn sync(connection: &Rc<Connection>, request: u32, sync: Sync) -> Result<(), Refusal> {
    let from = match sync.cursor.len() {
        _ if sync.from_end => From::End,
        0 => From::Cursor(Versionstamp::ZERO, Bytes::new()),
        _ => {
            let cursor = Versionstamp::from_slice(&sync.cursor).ok_or(ErrorCode::CURSOR_INVALID)?;
            From::Cursor(cursor, Bytes::copy_from_slice(&sync.store))
        }
    };
    let (app, user) = identity(connection)?;
    let PageLimit { entries_max, bytes_max } = page_limit(connection, sync.limit)?;
    let limit = PageLimit { entries_max: entries_max.min(LOG_ENTRIES_MAX), bytes_max };
    start_page(connection)?;
    if connection.with_session(Session::sync_started) != Some(true) {
        connection.page_finished();
        return Err(ErrorCode::BUSY.into());
    }
    let task = connection.clone();
    connection.core.spawn_for(connection, async move {
        let connection = task;
        let page = match members::load(&connection).await {
            Ok(()) => sync::events(&connection.core.shared.store, app, &user, from, limit).await,
            Err(error) => Err(error),
        };
        connection.page_finished();
        match page {
            Ok(page) => {
                let more = connection.with_session(|session| session.sync_finished(page.cursor, page.more));
                let events = page
                    .events
                    .into_iter()
                    .map(|event| Event { position: Bytes::copy_from_slice(&event.position.0), what: Some(event.what) });
                let cursor = match page.cursor {
                    Versionstamp::ZERO => Bytes::new(),
                    cursor => Bytes::copy_from_slice(&cursor.0),
                };
                let (more, start_over) = (more.unwrap_or(true), page.start_over);
                let reply = SyncReply { events: events.collect(), cursor, more, start_over };
                connection.with_protocol(|protocol| protocol.respond(request, &reply));
            }
            Err(error) => {
                connection.with_session(Session::sync_failed);
                connection.refuse(request, error);
            }
        }
    });
    Ok(())
}

pub(super) fn history(connection: &Rc<Connection>, request: u32, history: History) -> Result<(), Refusal> {
    let conversation = Conversation { user: history.user, group: history.group };
    let peer = peer(Some(&conversation))?;
    let (app, user) = identity(connection)?;
    let start = match (history.from_seq, history.from_ms) {
        (0, 0) => Start::End,
        (seq, 0) => Start::Seq(seq),
        (0, time_ms) => Start::Time(time_ms),
        _ => return Err(invalid("from_seq and from_ms exclude each other")),
    };
    let query = HistoryQuery { start, forward: history.forward, limit: page_limit(connection, history.limit)? };
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let page = history::page(&store, app, &user, &peer, query).await?;
        let HistoryPage { messages, more, head_seq, next_seq, first_seq } = page;
        Ok(HistoryReply { messages, more, head_seq, next_seq, first_seq })
    })
}

pub(super) fn conversations(connection: &Rc<Connection>, request: u32, asked: Conversations) -> Result<(), Refusal> {
    let (app, user) = identity(connection)?;
    let limit = page_limit(connection, asked.limit)?;
    let from = (!asked.from.is_empty()).then(|| Bytes::copy_from_slice(&asked.from));
    let label = (!asked.label.is_empty()).then_some(asked.label);
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let ListPage { entries, next } = conversations::list(&store, app, &user, from, label, limit).await?;
        Ok(ConversationsReply { conversations: entries, next: next.unwrap_or_default() })
    })
}

pub(super) fn chosen_conversations(
    connection: &Rc<Connection>,
    request: u32,
    asked: GetConversations,
) -> Result<(), Refusal> {
    if asked.conversations.len() > CONVERSATIONS_MAX {
        return Err(invalid("at most 100 conversations are read at a time"));
    }
    let peers = asked.conversations.iter().map(|one| peer(Some(one))).collect::<Result<Vec<Peer>, _>>()?;
    let (app, user) = identity(connection)?;
    let bytes_max = page_limit(connection, 0)?.bytes_max;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let mut conversations = conversations::chosen(&store, app, &user, peers).await?;
        cut(&mut conversations, bytes_max);
        Ok(GetConversationsReply { conversations })
    })
}

/// Makes an answer of chosen conversations small enough: what does not fit is told without its last message,
/// which the history has; and not at all where that does not fit either.
fn cut(entries: &mut Vec<ConversationEntry>, bytes_max: usize) {
    let mut left = bytes_max;
    let mut count = 0;
    for entry in entries.iter_mut() {
        if entry.encoded_len() + ENTRY_OVERHEAD_BYTES > left {
            entry.last_message = None;
        }
        let bytes = entry.encoded_len() + ENTRY_OVERHEAD_BYTES;
        if bytes > left {
            break;
        }
        left -= bytes;
        count += 1;
    }
    entries.truncate(count);
}

/// How many entries of these sizes fit into an answer.
pub(super) fn fitting(entries: impl Iterator<Item = usize>, bytes_max: usize) -> usize {
    let mut left = bytes_max;
    let fits = |bytes: &usize| {
        let taken = left.checked_sub(bytes + ENTRY_OVERHEAD_BYTES);
        left = taken.unwrap_or(0);
        taken.is_some()
    };
    entries.take_while(fits).count()
}

pub(super) fn unread(connection: &Rc<Connection>, request: u32, _: GetUnread) -> Result<(), Refusal> {
    let (app, user) = identity(connection)?;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let total = conversations::total_unread(&store, app, &user, conversations::UNREAD_CONVERSATIONS_MAX).await?;
        Ok(GetUnreadReply { messages: total.messages, marked: total.marked })
    })
}

pub(super) fn pinned(connection: &Rc<Connection>, request: u32, asked: GetPinned) -> Result<(), Refusal> {
    let peer = peer(asked.conversation.as_ref())?;
    let (app, user) = identity(connection)?;
    let store = connection.core.shared.store.clone();
    let bytes_max = page_limit(connection, 0)?.bytes_max;
    answer(connection, request, async move {
        let mut pinned = conversations::pinned(&store, app, &user, &peer).await?;
        let body_bytes = |pinned: &Pinned| pinned.message.as_ref().map_or(0, |message| message.body.len());
        let around = |pinned: &Pinned| pinned.encoded_len() + ENTRY_OVERHEAD_BYTES - body_bytes(pinned);
        // All of them are told; bodies as far as there is room left.
        let mut left = bytes_max.saturating_sub(pinned.iter().map(around).sum());
        for message in pinned.iter_mut().filter_map(|pinned| pinned.message.as_mut()) {
            if message.body.len() > left {
                message.body.clear();
            }
            left -= message.body.len();
        }
        Ok(GetPinnedReply { pinned })
    })
}

pub(super) fn extensions(connection: &Rc<Connection>, request: u32, asked: GetExtensions) -> Result<(), Refusal> {
    let peer = peer(asked.conversation.as_ref())?;
    let (app, user) = identity(connection)?;
    let bytes_max = page_limit(connection, 0)?.bytes_max;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let page =
            extension::page(&store, app, (&user, Author::User), &peer, asked.seq, asked.after, bytes_max).await?;
        Ok(GetExtensionsReply { extensions: page.0, more: page.1 })
    })
}

pub(super) fn blacklist(connection: &Rc<Connection>, request: u32, asked: GetBlacklist) -> Result<(), Refusal> {
    let after = if asked.after.is_empty() { None } else { Some(user_id(&asked.after)?) };
    let (app, user) = identity(connection)?;
    let limit = page_limit(connection, asked.limit)?;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let (listed, more) = blacklist::page(&store, app, &user, after, limit).await?;
        Ok(GetBlacklistReply { users: listed.iter().map(|listed| listed.user.to_string()).collect(), more })
    })
}

pub(super) fn merge(connection: &Rc<Connection>, request: u32, asked: Merge) -> Result<(), Refusal> {
    // It stores more than any message.
    check_send_limit(connection)?;
    let mut sources = Vec::new();
    for source in &asked.sources {
        let peer = peer(source.conversation.as_ref())?;
        sources.extend(source.seqs.iter().map(|seq| (peer.clone(), *seq)));
    }
    let content_id = Bytes::copy_from_slice(&asked.content_id);
    merged::check(&content_id, &sources)?;
    let (app, user) = identity(connection)?;
    let store = connection.core.shared.store.clone();
    let now_ms = connection.core.shared.clock.unix_ms();
    answer(connection, request, async move {
        let count = merged::store(&store, app, &user, content_id, sources, now_ms).await?;
        Ok(MergeReply { count })
    })
}

pub(super) fn merged(connection: &Rc<Connection>, request: u32, asked: GetMerged) -> Result<(), Refusal> {
    let content_id = Bytes::copy_from_slice(&asked.content_id);
    let (app, _) = identity(connection)?;
    let limit = page_limit(connection, 0)?;
    let store = connection.core.shared.store.clone();
    answer(connection, request, async move {
        let (messages, more) = merged::page(&store, app, content_id, asked.from_index, limit).await?;
        Ok(GetMergedReply { messages, more })
    })
}

pub(super) fn start_page(connection: &Connection) -> Result<(), Refusal> {
    if connection.page_started() { Ok(()) } else { Err(ErrorCode::BUSY.into()) }
}

pub(super) fn page_limit(connection: &Connection, entries: u32) -> Result<PageLimit, Refusal> {
    let entries = match entries {
        0 => PAGE_ENTRIES_DEFAULT,
        1..=PAGE_ENTRIES_MAX => entries,
        _ => return Err(invalid("limit must be at most 1000")),
    };
    let bytes_max = connection.answer_bytes_max().saturating_sub(PAGE_OVERHEAD_BYTES);
    Ok(PageLimit { entries_max: entries as usize, bytes_max })
}
