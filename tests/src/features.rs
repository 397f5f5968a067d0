//! What a client can ask for beyond sending, syncing and reading: one method a command. Each answers as the
//! gateway did; what a test does not expect to fail, it unwraps.

use bytes::Bytes;
use protocol::{
    command::Command,
    message::{
        Body, Conversation, ConversationEntry, ConversationState, Conversations, ConversationsReply, Delete, Done,
        Edit, Element, ExtensionChange, ExtensionResult, GetBlacklist, GetBlacklistReply, GetConversations,
        GetConversationsReply, GetExtensions, GetExtensionsReply, GetMerged, GetMergedReply, GetPinned, GetPinnedReply,
        GetUnread, GetUnreadReply, History, HistoryReply, Merge, MergeReply, MergeSource, Message, MessageReply, Pin,
        Pinned, Recall, RenameLabel, Send, SendReceipts, SendReply, SetExtensions, SetExtensionsReply, UpdateBlacklist,
        UpdateConversation, UpdateConversationReply, element::Kind, event::What,
    },
};

use crate::{Answer, Client, unique_id};

/// The 1:1 conversation with a user.
pub fn user(name: &str) -> Option<Conversation> {
    Some(Conversation { user: name.to_owned(), ..Default::default() })
}

/// A body with elements of these kinds.
pub fn body_of(kinds: impl IntoIterator<Item = Kind>) -> Body {
    let elements = kinds.into_iter().map(|kind| Element { kind: Some(kind) }).collect();
    Body { elements, ..Body::default() }
}

/// The change that sets an extension, made to `version`.
pub fn add_extension(key: &str, value: &[u8], version: u64) -> ExtensionChange {
    ExtensionChange { key: key.to_owned(), value: Bytes::copy_from_slice(value), remove: false, version }
}

fn names(users: &[&str]) -> Vec<String> {
    users.iter().map(ToString::to_string).collect()
}

/// Messages.
impl Client {
    /// Sends with all that can be said of a message; an id is made if there is none.
    pub fn send_request(&mut self, mut send: Send) -> Answer<SendReply> {
        if send.client_message_id.is_empty() {
            send.client_message_id = Bytes::copy_from_slice(&unique_id());
        }
        self.call(Command::Send, &send)
    }

    /// Takes the next push from the log: a message that was changed.
    pub fn next_changed(&mut self) -> Message {
        match self.next_event() {
            What::Changed(message) => message,
            other => panic!("not a changed message: {other:?}"),
        }
    }

    /// Takes a message back.
    pub fn recall(&mut self, peer: &str, seq: u64, reason: &str) -> Answer<Message> {
        let recall = Recall { conversation: user(peer), seq, reason: reason.to_owned() };
        let reply: MessageReply = self.call(Command::Recall, &recall)?;
        Ok(reply.message.expect("the message as it is now"))
    }

    /// Replaces the body of a message.
    pub fn edit(&mut self, peer: &str, seq: u64, body: Bytes) -> Answer<Message> {
        let reply: MessageReply = self.call(Command::Edit, &Edit { conversation: user(peer), seq, body })?;
        Ok(reply.message.expect("the message as it is now"))
    }

    /// Deletes messages for oneself.
    pub fn delete(&mut self, peer: &str, seqs: &[u64]) -> Answer<Done> {
        self.call(Command::Delete, &Delete { conversation: user(peer), seqs: seqs.to_vec() })
    }

    /// Says that messages were read, one by one.
    pub fn send_receipts(&mut self, peer: &str, seqs: &[u64]) -> Answer<Done> {
        self.call(Command::SendReceipts, &SendReceipts { conversation: user(peer), seqs: seqs.to_vec() })
    }

    /// Changes extensions of a message.
    pub fn set_extensions(
        &mut self,
        peer: &str,
        seq: u64,
        changes: Vec<ExtensionChange>,
    ) -> Answer<Vec<ExtensionResult>> {
        let set = SetExtensions { conversation: user(peer), seq, changes };
        Ok(self.call::<SetExtensionsReply>(Command::SetExtensions, &set)?.results)
    }

    /// A page of the extensions of a message.
    pub fn extensions(&mut self, peer: &str, seq: u64, after: &str) -> Answer<GetExtensionsReply> {
        let asked = GetExtensions { conversation: user(peer), seq, after: after.to_owned() };
        self.call(Command::GetExtensions, &asked)
    }

    /// Pins a message, or unpins it.
    pub fn pin(&mut self, peer: &str, seq: u64, unpin: bool) -> Answer<Done> {
        self.call(Command::Pin, &Pin { conversation: user(peer), seq, unpin })
    }

    /// The pinned messages of a conversation.
    pub fn pinned(&mut self, peer: &str) -> Vec<Pinned> {
        let asked = GetPinned { conversation: user(peer) };
        self.call::<GetPinnedReply>(Command::GetPinned, &asked).expect("pinned messages").pinned
    }

    /// Stores the content of a merged message: sequences of conversations.
    pub fn merge(&mut self, content_id: &[u8], sources: &[(&str, &[u64])]) -> Answer<u32> {
        let source = |(peer, seqs): &(&str, &[u64])| MergeSource { conversation: user(peer), seqs: seqs.to_vec() };
        let content_id = Bytes::copy_from_slice(content_id);
        let merge = Merge { content_id, sources: sources.iter().map(source).collect() };
        Ok(self.call::<MergeReply>(Command::Merge, &merge)?.count)
    }

    /// A page of the content of a merged message.
    pub fn merged(&mut self, content_id: &[u8], from_index: u32) -> Answer<GetMergedReply> {
        let content_id = Bytes::copy_from_slice(content_id);
        self.call(Command::GetMerged, &GetMerged { content_id, from_index })
    }

    /// One page of a conversation, from a time on.
    pub fn history_at(&mut self, peer: &str, from_ms: u64, forward: bool, limit: u32) -> Answer<HistoryReply> {
        let asked = History { user: peer.to_owned(), from_ms, forward, limit, ..History::default() };
        self.call(Command::History, &asked)
    }
}

/// Conversations.
impl Client {
    /// A page of the conversation list.
    pub fn conversations_page(&mut self, from: Bytes, limit: u32, label: &str) -> Answer<ConversationsReply> {
        self.call(Command::Conversations, &Conversations { from, limit, label: label.to_owned() })
    }

    /// The conversation list, read in pages of `limit`.
    pub fn conversations(&mut self, limit: u32) -> Vec<ConversationEntry> {
        let mut entries = Vec::new();
        let mut from = Bytes::new();
        loop {
            let page = self.conversations_page(from, limit, "").expect("a page of the list");
            entries.extend(page.conversations);
            from = page.next;
            if from.is_empty() {
                return entries;
            }
        }
    }

    /// Who is in the conversation list, in its order.
    pub fn peers(&mut self) -> Vec<String> {
        self.conversations(0).into_iter().filter_map(|entry| Some(entry.conversation?.user)).collect()
    }

    /// Chosen conversations.
    pub fn chosen_conversations(&mut self, peers: &[&str]) -> Answer<Vec<ConversationEntry>> {
        let conversations = peers.iter().filter_map(|peer| user(peer)).collect();
        let asked = GetConversations { conversations };
        Ok(self.call::<GetConversationsReply>(Command::GetConversations, &asked)?.conversations)
    }

    /// One conversation.
    pub fn entry(&mut self, peer: &str) -> ConversationEntry {
        let mut entries = self.chosen_conversations(&[peer]).expect("a conversation");
        entries.pop().expect("the one asked for")
    }

    /// Changes what the user keeps about a conversation.
    pub fn try_update(&mut self, peer: &str, update: UpdateConversation) -> Answer<ConversationState> {
        let update = UpdateConversation { conversation: user(peer), ..update };
        let reply: UpdateConversationReply = self.call(Command::UpdateConversation, &update)?;
        Ok(reply.state.expect("the state as it is now"))
    }

    /// The same, where nothing is to fail.
    pub fn update(&mut self, peer: &str, update: UpdateConversation) -> ConversationState {
        self.try_update(peer, update).expect("an update")
    }

    /// Makes a conversation read up to a sequence.
    pub fn read(&mut self, peer: &str, read_seq: u64) -> ConversationState {
        self.update(peer, UpdateConversation { read_seq, ..UpdateConversation::default() })
    }

    /// Puts labels on a conversation and takes labels off.
    pub fn label(&mut self, peer: &str, label: &[&str], unlabel: &[&str]) -> Answer<ConversationState> {
        let (label, unlabel) = (names(label), names(unlabel));
        self.try_update(peer, UpdateConversation { label, unlabel, ..UpdateConversation::default() })
    }

    /// Renames a label, or takes it off everywhere.
    pub fn rename_label(&mut self, label: &str, to: &str) -> Answer<Done> {
        self.call(Command::RenameLabel, &RenameLabel { label: label.to_owned(), to: to.to_owned() })
    }

    /// What is unread in all.
    pub fn unread(&mut self) -> GetUnreadReply {
        self.call(Command::GetUnread, &GetUnread {}).expect("a total")
    }
}

/// The blacklist.
impl Client {
    /// Puts users on the blacklist and takes users off.
    pub fn blacklist(&mut self, add: &[&str], remove: &[&str]) -> Answer<Done> {
        self.call(Command::UpdateBlacklist, &UpdateBlacklist { add: names(add), remove: names(remove) })
    }

    /// A page of the blacklist.
    pub fn blacklist_page(&mut self, after: &str, limit: u32) -> Answer<GetBlacklistReply> {
        self.call(Command::GetBlacklist, &GetBlacklist { after: after.to_owned(), limit })
    }

    /// The whole blacklist.
    pub fn blacklisted(&mut self) -> Vec<String> {
        let mut users: Vec<String> = Vec::new();
        loop {
            let after = users.last().cloned().unwrap_or_default();
            let page = self.blacklist_page(&after, 0).expect("a page of the blacklist");
            users.extend(page.users);
            if !page.more {
                return users;
            }
        }
    }
}
