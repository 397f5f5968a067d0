//! Storing a message in a group: once for all, with an event for everybody who receives from it (GRP-26).
//!
//! Small groups have the event written into each member's log, in the same place; large ones into a log of their
//! own. In live rooms nothing is kept but the sequence and, for some hours, what a send was answered.

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    EncodedEvent, EncodedPush,
    message::{Body, Element, GroupPush, GroupRole, GroupTips, Message, element::Kind, group_push::What},
};

use super::{imported, list_hour, move_in_lists, note_hours, to_some::Addressees, unaddressed};
use crate::{
    domain::{
        AppId, Error, GroupId, Peer, UserId,
        act::{Answer, Author, Staging},
        callbacks::{GroupSaid, Happened},
        damaged,
        groups::{
            Refusal,
            access::{self, ensure_may_speak},
            entering,
            records::{GroupRecord, MemberRecord, RoomSentRecord},
        },
        keys::{self, Tail},
        merged,
        message::{NewMessage, Treatment},
        records::{EventKind, Head, MessageRef, SentRecord},
        retention::hour_of,
        settings::Settings,
        unread::{self, Counts},
    },
    store::ReadMode,
};

/// Stores a message that has not been stored before.
pub(super) async fn stage(
    staging: &mut Staging<'_>,
    new: &NewMessage,
    group: &GroupId,
    settings: &Settings,
) -> Result<Answer, Error> {
    settings.check_message_bytes(new.body.len())?;
    let mut record = access::load(staging, new.app, group).await?;
    let is_room = record.rules()?.is_room();
    if is_room
        && !new.treatment.online_only
        && let Some(answer) = room_repeat(staging, new, group).await?
    {
        return Ok(answer);
    }
    let is_import = new.treatment.unannounced;
    if is_import {
        imported::ensure_importable(staging, new, group, &record).await?;
    }
    let member = ensure_may_speak(staging, new.app, group, &record, &new.from, new.by).await?;
    let is_known = member.as_ref().is_some_and(|member| member.role() != GroupRole::None);
    if is_room && new.by == Author::User && !new.treatment.is_in_room && !is_known {
        return Err(Refusal::RightMissing.into());
    }
    if is_room && new.by == Author::User {
        // The device may not have heard yet that it was put out.
        access::ensure_not_banned(staging, new.app, group, &new.from).await?;
    }
    if !is_import {
        staging.take_group_send(new.app, group, new.treatment.priority, settings)?;
    }
    merged::ensure_known(staging, new.app, new.facts.as_deref()).await?;
    let addressees = match new.recipients.is_empty() {
        true => None,
        false if is_room => return Err(Error::Argument("a live room is told as a whole")),
        false => Some(Addressees::of(staging, new, group, is_known).await?),
    };
    if new.treatment.online_only {
        let time_ms = staging.now_ms;
        let head = Head { time_ms, ..Head::default() };
        match &addressees {
            Some(addressees) => addressees.push(staging, new, group, &head),
            None => push(staging, new, group, &head),
        }
        return sent(staging, new, group, record.kind, &head).await;
    }
    merged::note_use(staging, new.app, new.facts.as_deref()).await?;
    if is_room {
        let head = stage_in_room(staging, new, group).await?;
        return sent(staging, new, group, record.kind, &head).await;
    }
    let activates = !record.is_active && !is_import;
    if activates {
        entering::activate(staging, new.app, group, &mut record).await?;
    }
    let told = Told { app: new.app, group, record: &record };
    let head = match is_import {
        true => imported::store(&told, staging, new, member).await?,
        false => told.store(staging, new, member, addressees.as_ref(), activates).await?,
    };
    sent(staging, new, group, record.kind, &head).await
}

/// What a message was answered that was not known before; the application's server is told of it.
async fn sent(
    staging: &mut Staging<'_>,
    new: &NewMessage,
    group: &GroupId,
    kind: i32,
    head: &Head,
) -> Result<Answer, Error> {
    let message = Message { group: group.to_string(), ..unaddressed(new, head) };
    let by = staging.caller.admin.as_ref().unwrap_or(&new.from).to_string();
    let said = GroupSaid { kind, by, message: message.encode_to_vec().into() };
    staging.tell_application(new.app, &Tail::from(group), Happened::GroupSaid(said)).await?;
    Ok(Answer::Sent { seq: head.seq, time_ms: head.time_ms, duplicate: false })
}

/// Tells everybody in a group what has happened in it: as a message of nobody's (TYPE-10); in a live room as a push.
pub(crate) async fn append_tips(
    staging: &mut Staging<'_>,
    app: AppId,
    group: &GroupId,
    record: &GroupRecord,
    tips: GroupTips,
) -> Result<(), Error> {
    if record.rules()?.is_room() {
        let push = GroupPush { what: Some(What::Tips(tips)) };
        staging.push(group.clone(), EncodedPush::group(&push));
        return Ok(());
    }
    if !record.is_active {
        return Ok(()); // there is nobody yet who knows of it
    }
    let element = Element { kind: Some(Kind::GroupTips(tips)) };
    let body = Body { elements: vec![element], ..Body::default() }.encode_to_vec();
    let told = Told { app, group, record };
    let treatment = Treatment { exclude_from_unread: true, ..Treatment::default() };
    let message = Message { body: body.into(), exclude_from_unread: true, ..Message::default() };
    told.append(staging, &treatment, message, None).await?;
    Ok(())
}

/// Where a message stands, for who looks for it later: see [`SentRecord`].
#[derive(Default)]
struct Standing {
    log_owner: String,
    is_in_group_log: bool,
    is_told_apart: bool,
    told: Vec<String>,
}

/// A group that is told something.
pub(super) struct Told<'a> {
    pub(super) app: AppId,
    pub(super) group: &'a GroupId,
    pub(super) record: &'a GroupRecord,
}

impl Told<'_> {
    /// Stores a member's message, or an administrator's.
    async fn store(
        &self,
        staging: &mut Staging<'_>,
        new: &NewMessage,
        member: Option<MemberRecord>,
        addressees: Option<&Addressees>,
        has_activated: bool,
    ) -> Result<Head, Error> {
        let sender_count = self.sender_count(staging, new, member.as_ref()).await?;
        let receivers = match addressees {
            Some(addressees) => addressees.named.len() as u32,
            None => self.record.member_count.saturating_sub(u32::from(member.is_some())),
        };
        let message = Message {
            sender_count,
            receivers: if new.treatment.need_receipt { receivers } else { 0 },
            recipients: addressees.map(Addressees::names).unwrap_or_default(),
            ..unaddressed(new, &Head::default())
        };
        let (head, standing) = match addressees {
            Some(addressees) => self.append_to_some(staging, new, message, addressees).await?,
            None => {
                // Who speaks without receiving has other devices, which are told apart.
                let deaf = member.as_ref().is_some_and(|member| member.deaf).then_some(&new.from);
                self.append(staging, &new.treatment, message, deaf).await?
            }
        };
        self.mention(staging, new, head.seq).await?;
        let sent = SentRecord {
            is_in_group_log: standing.is_in_group_log,
            log_owner: standing.log_owner,
            is_told_apart: standing.is_told_apart,
            told: standing.told,
            has_activated,
            ..SentRecord::default()
        };
        self.note_sent(staging, new, &head, sent);
        self.count_sent(staging, new, &head, sender_count, member);
        Ok(head)
    }

    /// How many messages of the sender's count as unread, the new one included: for who is no member, the index of
    /// his messages says how many there were.
    pub(super) async fn sender_count(
        &self,
        staging: &Staging<'_>,
        new: &NewMessage,
        member: Option<&MemberRecord>,
    ) -> Result<u64, Error> {
        let before = match member {
            Some(member) => member.sent_count,
            None => {
                let Counts { own, .. } =
                    unread::counts(staging.tx, self.app, &new.from, &new.to, &Head::default()).await?;
                own
            }
        };
        Ok(before + u64::from(!new.treatment.exclude_from_unread))
    }

    /// Notes what the send is answered, should it come again.
    pub(super) fn note_sent(&self, staging: &mut Staging<'_>, new: &NewMessage, head: &Head, sent: SentRecord) {
        let group = self.group.to_string();
        let sent = SentRecord { group, seq: head.seq, time_ms: head.time_ms, ..sent };
        staging.set(keys::sent(self.app, &new.from, &new.client_message_id), sent.encode_to_vec());
    }

    /// Notes that a message is the sender's.
    pub(super) fn count_sent(
        &self,
        staging: &mut Staging<'_>,
        new: &NewMessage,
        head: &Head,
        sender_count: u64,
        member: Option<MemberRecord>,
    ) {
        let (app, group) = (self.app, self.group);
        if let Some(member) = member {
            let member = MemberRecord { sent_count: sender_count, last_sent_ms: head.time_ms, ..member };
            staging.set(keys::member(app, group, &new.from), member.encode_to_vec());
        }
        staging.tx.set(keys::group_sent(app, group, &new.from, head.seq), sender_count.to_le_bytes().to_vec());
    }

    /// Stores a message, and tells everybody who receives from the group. In a large group that takes the same whatever
    /// its size, but for the first message of an hour. `deaf`: who says it, if he does not receive himself.
    async fn append(
        &self,
        staging: &mut Staging<'_>,
        treatment: &Treatment,
        message: Message,
        deaf: Option<&UserId>,
    ) -> Result<(Head, Standing), Error> {
        let (app, group, is_large) = (self.app, self.group, self.record.is_large);
        let (before, head, stored) = self.put(staging, treatment, message).await?;
        let is_moved = list_hour(&before) != list_hour(&head);
        let members = match is_moved || !is_large {
            true => access::members(staging.tx, app, group, ReadMode::Serializable).await?,
            false => Vec::new(),
        };
        let peer = Peer::Group(group.clone());
        move_in_lists(staging, app, members.iter().map(|(user, _)| (user, &peer)), &before, &head);
        let hears = |(user, member): (UserId, MemberRecord)| (!member.deaf).then_some(user);
        let receivers: Option<Vec<UserId>> = (!is_large).then(|| members.into_iter().filter_map(hears).collect());
        let kind = EventKind::Message(MessageRef::new(&peer, head.seq));
        let event = EncodedEvent::message(stored);
        let stamp = staging.append_to_group(app, group, receivers.as_deref(), kind.clone(), event.clone());
        if let Some(deaf) = deaf {
            staging.append_at(stamp, app, deaf, kind, event);
        }
        let log_owner = receivers.iter().flatten().next().map(UserId::to_string).unwrap_or_default();
        let is_told_apart = deaf.is_some();
        Ok((head, Standing { log_owner, is_in_group_log: is_large, is_told_apart, ..Standing::default() }))
    }

    /// Stores a message that is for some members alone. It leaves the conversation where it is in everybody's list.
    async fn append_to_some(
        &self,
        staging: &mut Staging<'_>,
        new: &NewMessage,
        message: Message,
        addressees: &Addressees,
    ) -> Result<(Head, Standing), Error> {
        let (_, head, stored) = self.put(staging, &new.treatment, message).await?;
        addressees.append(staging, self.app, self.group, head.seq, &EncodedEvent::message(stored));
        let told: Vec<String> = addressees.told.iter().map(UserId::to_string).collect();
        Ok((head, Standing { log_owner: told.first().cloned().unwrap_or_default(), told, ..Standing::default() }))
    }

    /// Notes whom a message mentions: each member who is named and receives it; or everybody, in one place.
    async fn mention(&self, staging: &mut Staging<'_>, new: &NewMessage, seq: u64) -> Result<(), Error> {
        let Some(facts) = new.facts.as_deref() else { return Ok(()) };
        if facts.mention_all {
            mention_all(staging, self.app, self.group, seq, &new.from);
        }
        let mentioned = || facts.mentions.iter().filter(|user| **user != new.from);
        staging.start_reads(mentioned().map(|user| keys::member(self.app, self.group, user)));
        for user in mentioned() {
            let member = access::member(staging, self.app, self.group, user).await?;
            if member.is_some_and(|member| !member.deaf) {
                staging.tx.set(keys::mention(self.app, user, &new.to, seq), Bytes::new());
            }
        }
        Ok(())
    }

    /// Writes a message as the group's next. Returns the head as it was, as it is, and the message as it is stored.
    pub(super) async fn put(
        &self,
        staging: &mut Staging<'_>,
        treatment: &Treatment,
        message: Message,
    ) -> Result<(Head, Head, Bytes), Error> {
        let (app, tail) = (self.app, Tail::from(self.group));
        let head_key = tail.head(app);
        let before = Head::from_stored(staging.get(&head_key).await?)?;
        let mut head = before.next(treatment, staging.now_ms);
        head.count_low += u64::from(!treatment.exclude_from_unread);
        note_hours(staging, app, &tail, self.record.first_seq.max(1), (&before, &head));
        staging.set(head_key, head.to_bytes());
        let message = Message {
            group: self.group.to_string(),
            seq: head.seq,
            time_ms: head.time_ms,
            other_count: head.count_low,
            ..message
        };
        let stored = Bytes::from(message.encode_to_vec());
        staging.set(tail.message(app, head.seq), stored.clone());
        Ok((before, head, stored))
    }
}

/// Has a message mention everybody in its group, but who has said it.
pub(crate) fn mention_all(staging: &Staging<'_>, app: AppId, group: &GroupId, seq: u64, by: &UserId) {
    staging.tx.set(keys::mention_of_all(app, group, seq), Bytes::copy_from_slice(by.as_str().as_bytes()));
}

/// What an earlier send of the same message to a live room was answered, in this hour or the one before.
async fn room_repeat(staging: &mut Staging<'_>, new: &NewMessage, group: &GroupId) -> Result<Option<Answer>, Error> {
    let hour = hour_of(staging.now_ms);
    let hours = [hour, hour.saturating_sub(1)];
    let key = |hour, id| keys::room_sent(new.app, hour, group, &new.from, id);
    staging.start_reads(hours.iter().flat_map(|hour| new.ids().map(|(id, _)| key(*hour, id))));
    for hour in hours {
        for (id, since_ms) in new.ids() {
            let Some(stored) = staging.get(&key(hour, id)).await? else { continue };
            let RoomSentRecord { seq, time_ms } = RoomSentRecord::decode(stored).map_err(|_| damaged("room sent"))?;
            if time_ms < since_ms {
                continue;
            }
            if staging.again {
                // An earlier run may have stored it unheard, so nobody was told. Devices drop what they have.
                push(staging, new, group, &Head { seq, time_ms, ..Head::default() });
            }
            return Ok(Some(Answer::Sent { seq, time_ms, duplicate: true }));
        }
    }
    Ok(None)
}

/// Takes the next sequence of a live room, and pushes the message to whoever is there.
async fn stage_in_room(staging: &mut Staging<'_>, new: &NewMessage, group: &GroupId) -> Result<Head, Error> {
    let head_key = Tail::from(group).head(new.app);
    let head = Head::from_stored(staging.get(&head_key).await?)?.next(&new.treatment, staging.now_ms);
    staging.set(head_key, head.to_bytes());
    let sent = RoomSentRecord { seq: head.seq, time_ms: head.time_ms };
    let key = keys::room_sent(new.app, hour_of(staging.now_ms), group, &new.from, &new.client_message_id);
    staging.set(key, sent.encode_to_vec());
    push(staging, new, group, &head);
    Ok(head)
}

/// Tells the devices that are there now, and nobody later.
fn push(staging: &mut Staging<'_>, new: &NewMessage, group: &GroupId, head: &Head) {
    staging.push(group.clone(), group_push(new, group, head));
}

/// A message that is in no log, as devices are told it.
pub(crate) fn group_push(new: &NewMessage, group: &GroupId, head: &Head) -> EncodedPush {
    let message = Message { group: group.to_string(), ..unaddressed(new, head) };
    EncodedPush::message(message.encode_to_vec().into())
}
