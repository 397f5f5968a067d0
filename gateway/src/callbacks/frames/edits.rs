//! An edit says something new: the application is asked about it as about the message that it becomes, so that nobody
//! says afterwards what he may not say at once.

use backend::{
    domain::{
        Error, Peer,
        act::{Act, Author},
        admin,
        callbacks::CallbackCommand,
        change::{Change, Kind},
        groups,
        message::{NewMessage, Treatment},
    },
    store::Store,
};

/// What the application is asked about an edit with. Not about those of administrators.
pub fn question(change: &Change) -> Option<CallbackCommand> {
    match &change.kind {
        Kind::Edit { peer, .. } if change.by == Author::User => Some(match peer {
            Peer::User(_) => CallbackCommand::BeforeSend,
            Peer::Group(_) => CallbackCommand::BeforeGroupSend,
        }),
        _ => None,
    }
}

/// What the application is asked about: an edit as the message that it becomes, with that message's sequence and time,
/// anything else as it is, with none. `None`: there is no such message of the user's, so nothing comes of the act.
pub async fn as_asked(store: &Store, act: Act) -> Result<Option<(Act, u64)>, Error> {
    let Act::Change(change) = &act else { return Ok(Some((act, 0))) };
    let Kind::Edit { peer, seq, body, .. } = &change.kind else { return Ok(Some((act, 0))) };
    let (app, user) = (change.app, &change.user);
    let found = match peer {
        Peer::User(other) => admin::message(store, app, user, other, *seq).await,
        Peer::Group(group) => groups::admin::message(store, app, group, *seq).await,
    };
    let message = match found {
        Ok(message) if message.from == user.as_str() => message,
        Err(error @ Error::Store(_)) => return Err(error),
        Ok(_) | Err(_) => return Ok(None),
    };
    let treatment = Treatment { sent_ms: Some(message.time_ms), ..Treatment::default() };
    let new = NewMessage::new(app, user.clone(), peer.clone(), message.client_message_id, body.clone());
    Ok(Some((Act::Send(NewMessage { treatment, ..new }), *seq)))
}
