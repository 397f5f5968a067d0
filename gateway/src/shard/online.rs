//! Who is online, of the users whose home is this core: where each one's sessions are.

use ahash::AHashMap;
use backend::domain::{AppId, UserId};

use crate::mailbox::Address;

/// Sessions by user.
#[derive(Default)]
pub(super) struct OnlineTable {
    sessions: AHashMap<(AppId, UserId), Vec<Address>>,
}

impl OnlineTable {
    /// Adds a session, unless the user has `max` already.
    pub(super) fn insert(&mut self, app: AppId, user: UserId, address: Address, max: usize) -> bool {
        let sessions = self.sessions.entry((app, user)).or_insert_with(|| Vec::with_capacity(1));
        let admitted = sessions.len() < max;
        if admitted {
            sessions.push(address);
        }
        admitted
    }

    /// Removes a session.
    pub(super) fn remove(&mut self, app: AppId, user: &UserId, address: Address) {
        let key = (app, user.clone());
        if let Some(addresses) = self.sessions.get_mut(&key) {
            addresses.retain(|other| *other != address);
            if addresses.is_empty() {
                self.sessions.remove(&key);
            }
        }
    }

    /// A user's sessions.
    pub(super) fn sessions(&self, app: AppId, user: &UserId) -> &[Address] {
        self.sessions.get(&(app, user.clone())).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_and_go_apart_by_application() {
        let user = UserId::new("anna").unwrap();
        let (one, two) = (Address { core: 0, connection: 1 }, Address { core: 1, connection: 1 });
        let mut table = OnlineTable::default();
        assert!(table.insert(1, user.clone(), one, 2));
        assert!(table.insert(1, user.clone(), two, 2));
        assert!(!table.insert(1, user.clone(), Address { core: 0, connection: 3 }, 2), "as many as may be");
        assert_eq!(table.sessions(1, &user), [one, two]);
        assert!(table.sessions(2, &user).is_empty());
        table.remove(1, &user, one);
        table.remove(2, &user, two);
        assert_eq!(table.sessions(1, &user), [two]);
        table.remove(1, &user, two);
        assert!(table.sessions.is_empty());
    }
}
