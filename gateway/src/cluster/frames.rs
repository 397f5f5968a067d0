//! What cores say to each other, between the links' messages and what this process holds.
//!
//! A peer is trusted with what it says, not with how: what makes no sense is skipped, or, where a log has it, read there.

use backend::{
    domain::{
        AppId, GroupId, UserId,
        act::{Audience, News},
    },
    store::Versionstamp,
};
use prost::Message as _;
use protocol::{
    EncodedEvent, EncodedPush,
    link::What,
    link_message::{
        PeerAddress, PeerBatch, PeerEvent, PeerInvalidated, PeerNews, PeerPush, PeerSession, PeerSessionGone,
        PeerSessions, PeerSignOut,
        peer_news::{To, What as Said},
    },
    message::{Device, Platform},
};

use super::sequencer::Place;
use crate::mailbox::{Address, NodeIndex, Published, RemoteSession};

/// Bytes of a part of a batch, about, at the most.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Users who are told the same by one item of a batch, at the most.
const USERS_TOGETHER: usize = 10_000;

/// Something for devices, wherever they are.
#[derive(Clone)]
pub enum Told {
    /// For a user or a group.
    Published(Published),
    /// For whoever is in a live room of the application.
    Rooms(AppId, EncodedPush),
}

/// A batch as other nodes are sent it: in parts, each well below what a frame holds. One that says nothing is one part.
pub fn batch(place: Place, late: bool, news: &[Published]) -> Vec<What> {
    let part = |news| What::Batch(PeerBatch { version: place.0, order: place.1.into(), news, late });
    let mut parts = Vec::with_capacity(1);
    let (mut held, mut bytes) = (Vec::new(), 0);
    // What one thing is for many users is said once.
    for same in news.chunk_by(is_same) {
        for some in same.chunks(USERS_TOGETHER) {
            let news = said_to_all(some);
            bytes += news.encoded_len();
            if bytes > BATCH_BYTES_MAX && !held.is_empty() {
                parts.push(part(std::mem::take(&mut held)));
                bytes = news.encoded_len();
            }
            held.push(news);
        }
    }
    parts.push(part(held));
    parts
}

/// Whether two users are told the same.
fn is_same(one: &Published, other: &Published) -> bool {
    let are_users = matches!((&one.to, &other.to), (Audience::User(_), Audience::User(_)));
    are_users && one.app == other.app && one.news == other.news
}

/// The news of all of them, which is the same.
fn said_to_all(same: &[Published]) -> PeerNews {
    let Some((first, others)) = same.split_first() else { return PeerNews::default() };
    let users = others.iter().filter_map(|published| match &published.to {
        Audience::User(user) => Some(user.to_string()),
        Audience::Group(_) => None,
    });
    PeerNews { users: users.collect(), ..said(first.app, to(&first.to), &first.news) }
}

/// The same for something that is no transaction's, and told at once.
pub fn hint(told: &Told) -> What {
    let news = match told {
        Told::Published(published) => said(published.app, to(&published.to), &published.news),
        Told::Rooms(app, push) => said(*app, None, &News::Push(push.clone())),
    };
    What::Batch(PeerBatch { news: vec![news], ..PeerBatch::default() })
}

fn to(audience: &Audience) -> Option<To> {
    Some(match audience {
        Audience::User(user) => To::User(user.to_string()),
        Audience::Group(group) => To::Group(group.to_string()),
    })
}

fn said(app: AppId, to: Option<To>, news: &News) -> PeerNews {
    let what = match news {
        News::Event(position, event) => {
            Said::Event(PeerEvent { position: position.0.to_vec().into(), event: event.to_stored() })
        }
        News::Entered(group) => Said::Entered(group.to_string()),
        News::Left(group) => Said::Left(group.to_string()),
        News::Push(push) => {
            let (topic, payload) = push.parts();
            Said::Push(PeerPush { topic, payload })
        }
        News::Behind => Said::Behind(true),
    };
    PeerNews { sdkappid: app, to, users: Vec::new(), what: Some(what) }
}

/// What was heard of another node's batch.
pub struct Heard {
    /// For the devices of this node.
    pub told: Vec<Told>,
    /// Some of it is for nobody knows whom: something in a log may be missed.
    pub is_missing: bool,
}

/// What a batch holds for the devices of this node. What is not understood, since a later release says it, is something to
/// read for those whom it concerns; what is in no log is passed over.
pub fn heard(batch: PeerBatch) -> Heard {
    let is_hint = batch.version == 0;
    let mut heard = Heard { told: Vec::with_capacity(batch.news.len()), is_missing: false };
    for PeerNews { sdkappid: app, to, users, what } in batch.news {
        let news = what.and_then(news);
        let others = users.into_iter().map(|user| Some(To::User(user)));
        for to in std::iter::once(to).chain(others) {
            heard.hear(app, to, news.clone(), is_hint);
        }
    }
    heard
}

impl Heard {
    fn hear(&mut self, app: AppId, to: Option<To>, news: Option<News>, is_hint: bool) {
        let is_for_rooms = to.is_none();
        let told = match (to.and_then(audience), news) {
            (Some(to), Some(news)) => Told::Published(Published { app, to, news, origin: None }),
            (None, Some(News::Push(push))) if is_for_rooms => Told::Rooms(app, push),
            _ if is_hint => return,
            (Some(to), None) => Told::Published(Published { app, to, news: News::Behind, origin: None }),
            (None, _) => {
                self.is_missing = true;
                return;
            }
        };
        self.told.push(told);
    }
}

fn news(said: Said) -> Option<News> {
    Some(match said {
        Said::Event(PeerEvent { position, event }) => {
            News::Event(Versionstamp::from_slice(&position)?, EncodedEvent::from_stored(&event)?)
        }
        Said::Entered(group) => News::Entered(GroupId::new(&group)?),
        Said::Left(group) => News::Left(GroupId::new(&group)?),
        Said::Push(PeerPush { topic, payload }) => News::Push(EncodedPush::from_parts(topic, payload)?),
        Said::Behind(_) => News::Behind,
    })
}

fn audience(to: To) -> Option<Audience> {
    Some(match to {
        To::User(user) => Audience::User(UserId::new(&user)?),
        To::Group(group) => Audience::Group(GroupId::new(&group)?),
    })
}

/// A session of this node as others are told of it.
pub fn session(app: AppId, user: &UserId, session: RemoteSession) -> PeerSession {
    PeerSession {
        sdkappid: app,
        user: user.to_string(),
        address: Some(peer_address(session.address)),
        number: session.number,
        since_ms: session.since_ms,
        device: session.device,
        platform: session.platform.into(),
        background: session.background,
        status: session.status,
    }
}

/// A session of this node is gone.
pub fn gone(app: AppId, user: &UserId, address: Address) -> What {
    let gone = PeerSessionGone { sdkappid: app, user: user.to_string(), address: Some(peer_address(address)) };
    What::Sessions(PeerSessions { gone: vec![gone], ..PeerSessions::default() })
}

/// A session of another node is to end.
pub fn sign_out(address: Address, by: &Device) -> What {
    What::SignOut(PeerSignOut { address: Some(peer_address(address)), by: by.encode_to_vec().into() })
}

/// A user's UserSigs are invalid that were issued before.
pub fn invalidated(app: AppId, user: &UserId, from_s: u64, by: &Device) -> What {
    let (user, by) = (user.to_string(), by.encode_to_vec().into());
    What::Invalidated(PeerInvalidated { sdkappid: app, user, from_s, by })
}

/// A session as the node that holds it says.
pub fn remote_session(node: NodeIndex, said: PeerSession) -> Option<(AppId, UserId, RemoteSession)> {
    let session = RemoteSession {
        address: address(node, said.address?)?,
        number: said.number,
        since_ms: said.since_ms,
        platform: Platform::try_from(said.platform).unwrap_or_default(),
        device: said.device,
        background: said.background,
        status: said.status,
    };
    Some((said.sdkappid, UserId::new(&said.user)?, session))
}

/// Where a session is, as a node says that is known here as `node`.
pub fn address(node: NodeIndex, said: PeerAddress) -> Option<Address> {
    Some(Address { node, core: said.core.try_into().ok()?, connection: said.connection })
}

fn peer_address(address: Address) -> PeerAddress {
    PeerAddress { core: address.core.into(), connection: address.connection }
}

#[cfg(test)]
mod tests {
    use protocol::message::{GroupPush, Message, event};

    use super::*;

    #[test]
    fn geo_01_what_is_said_arrives_as_it_was() {
        let user = |name: &str| Audience::User(UserId::new(name).unwrap());
        let group = GroupId::new("place").unwrap();
        let message = Message { seq: 7, from: "ben".into(), ..Message::default() };
        let event = EncodedEvent::of(&event::What::Message(message));
        let push = EncodedPush::group(&GroupPush::default());
        let all = [
            (user("anna"), News::Event(Versionstamp::new(9, 1, 2), event)),
            (user("anna"), News::Entered(group.clone())),
            (Audience::Group(group.clone()), News::Left(group.clone())),
            (Audience::Group(group), News::Push(push.clone())),
            (user("ben"), News::Behind),
        ];
        let news: Vec<_> = all
            .iter()
            .map(|(to, news)| Published { app: 3, to: to.clone(), news: news.clone(), origin: None })
            .collect();
        let [What::Batch(sent)] = &batch((9, 1), false, &news)[..] else { panic!("a batch") };
        assert_eq!((sent.version, sent.order), (9, 1));
        let arrived: Vec<_> = heard(sent.clone())
            .told
            .into_iter()
            .map(|told| match told {
                Told::Published(Published { app: 3, to, news, origin: None }) => (to, news),
                _ => panic!("something else"),
            })
            .collect();
        assert_eq!(arrived, all);
        let What::Batch(sent) = hint(&Told::Rooms(3, push.clone())) else { panic!("a batch") };
        assert_eq!(sent.version, 0, "told at once");
        assert!(matches!(&heard(sent).told[..], [Told::Rooms(3, arrived)] if *arrived == push));
    }

    #[test]
    fn geo_01_what_many_users_are_told_is_sent_once_and_no_part_is_too_large() {
        let user = |n: usize| Audience::User(UserId::new(&format!("user{n}")).unwrap());
        let event = |n: u16| {
            let message = Message { seq: n.into(), body: vec![0; 12_000].into(), ..Message::default() };
            News::Event(Versionstamp::new(9, 1, n), EncodedEvent::of(&event::What::Changed(message)))
        };
        let publish = |(to, news)| Published { app: 3, to, news, origin: None };
        let one_for_all: Vec<Published> = (0..6_000).map(|n| publish((user(n), event(1)))).collect();
        let sent = batch((9, 1), false, &one_for_all);
        let [What::Batch(only)] = &sent[..] else { panic!("one part") };
        assert!(only.encoded_len() < 200_000, "{}", only.encoded_len());
        let each_another: Vec<Published> = (0..1_000).map(|n| publish((user(n), event(n as u16)))).collect();
        for news in [one_for_all, each_another] {
            let parts = batch((9, 1), true, &news).into_iter().map(|part| match part {
                What::Batch(part) => part,
                other => panic!("{other:?}"),
            });
            let parts: Vec<PeerBatch> = parts.collect();
            assert!(parts.iter().all(|part| part.late && part.encoded_len() < 5 << 20));
            let arrived: Vec<_> = parts.into_iter().flat_map(|part| heard(part).told).collect();
            assert_eq!(arrived.len(), news.len());
            for (arrived, sent) in arrived.iter().zip(&news) {
                let Told::Published(arrived) = arrived else { panic!("something else") };
                assert_eq!((&arrived.to, &arrived.news), (&sent.to, &sent.news));
            }
        }
        assert_eq!(batch((9, 1), false, &[]).len(), 1, "one that says nothing is told, too");
    }

    #[test]
    fn geo_01_what_is_not_understood_is_something_to_read() {
        let valid = said(1, to(&Audience::User(UserId::new("anna").unwrap())), &News::Behind);
        let nobody = PeerNews { to: Some(To::User(String::new())), ..valid.clone() };
        let nowhere = PeerNews {
            what: Some(Said::Event(PeerEvent { position: vec![1].into(), event: vec![0xff].into() })),
            ..valid.clone()
        };
        let nothing = PeerNews { what: None, ..valid.clone() };
        let all_rooms = PeerNews { to: None, ..valid.clone() };
        let of = |version, news: &PeerNews| {
            let Heard { told, is_missing } =
                heard(PeerBatch { version, news: vec![news.clone(), valid.clone()], ..PeerBatch::default() });
            let is_behind = |told: &Told| matches!(told, Told::Published(Published { news: News::Behind, .. }));
            assert!(told.iter().all(is_behind));
            (told.len(), is_missing)
        };
        assert_eq!([&nowhere, &nothing].map(|news| of(9, news)), [(2, false); 2], "she is sent to her log");
        assert_eq!([&nobody, &all_rooms].map(|news| of(9, news)), [(1, true); 2], "whom it concerns is not known");
        let hints = [&nowhere, &nothing, &nobody, &all_rooms];
        assert_eq!(hints.map(|news| of(0, news)), [(1, false); 4], "it is in no log");
        let session = PeerSession { user: "anna".into(), ..PeerSession::default() };
        assert!(remote_session(1, session).is_none(), "without an address");
    }
}
