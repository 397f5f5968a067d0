//! What a client asks about devices and presence.

use protocol::{
    ErrorCode,
    command::Command,
    connection::ClientEvent,
    message::{
        Device, Devices, DevicesReply, OnlineState, Platform, Presence, QueryPresence, QueryPresenceReply, SetPresence,
        SetPresenceReply, SignOut, SignOutReply, SubscribePresence, SubscribePresenceReply,
    },
};

use crate::{Answer, Client};

impl Client {
    /// The user's logged-in devices.
    pub fn devices(&mut self) -> Vec<Device> {
        self.call::<DevicesReply>(Command::Devices, &Devices {}).expect("the devices").devices
    }

    /// The number of this device's session.
    pub fn session(&mut self) -> u64 {
        self.devices().iter().find(|device| device.own).expect("this device").session
    }

    /// Signs devices of the user out; how many were.
    pub fn sign_out(&mut self, sessions: &[u64], invalidate_usersigs: bool) -> Answer<u32> {
        let wish = SignOut { sessions: sessions.to_vec(), invalidate_usersigs };
        self.call::<SignOutReply>(Command::SignOut, &wish).map(|reply| reply.count)
    }

    /// Says whether this device is in the background.
    pub fn set_background(&mut self, background: bool) {
        let set = SetPresence { background: Some(background), status: None };
        self.call::<SetPresenceReply>(Command::SetPresence, &set).expect("set");
    }

    /// Says what the user's status is.
    pub fn set_status(&mut self, status: &str) -> Answer<SetPresenceReply> {
        self.call(Command::SetPresence, &SetPresence { background: None, status: Some(status.to_owned()) })
    }

    /// Asks for the presence of users.
    pub fn query_presence<User: AsRef<str>>(&mut self, users: &[User]) -> Answer<Vec<Presence>> {
        let query = QueryPresence { users: owned(users) };
        self.call::<QueryPresenceReply>(Command::QueryPresence, &query).map(|reply| reply.users)
    }

    /// The presence of one user.
    pub fn presence_of(&mut self, user: &str) -> Presence {
        let mut presences = self.query_presence(&[user]).expect("an answer");
        assert_eq!(presences.len(), 1);
        presences.remove(0)
    }

    /// Follows users.
    pub fn follow<User: AsRef<str>>(&mut self, users: &[User]) -> Answer<Vec<Presence>> {
        self.subscribe(&SubscribePresence { users: owned(users), ..SubscribePresence::default() })
    }

    /// Changes whom this connection follows.
    pub fn subscribe(&mut self, wish: &SubscribePresence) -> Answer<Vec<Presence>> {
        self.call::<SubscribePresenceReply>(Command::SubscribePresence, wish).map(|reply| reply.users)
    }

    /// Waits for the next push of a presence.
    pub fn next_presence(&mut self) -> Presence {
        let push = self.wait("a presence", |event| match event {
            ClientEvent::Presence(presence) => Some(presence.clone()),
            _ => None,
        });
        push.expect("the connection is open")
    }

    /// Presences that have come and were not taken.
    pub fn presences_waiting(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, ClientEvent::Presence(_))).count()
    }

    /// Waits for the go-away of a server that ends; where the client is told to connect instead, by id.
    pub fn sent_elsewhere(&mut self) -> Vec<String> {
        let points = self.wait("being sent elsewhere", |event| match event {
            ClientEvent::Closing { access_points, .. } => Some(access_points.clone()),
            _ => None,
        });
        points.expect("a go-away").into_iter().map(|point| point.id).collect()
    }

    /// Waits until this device has been signed out: by which one.
    pub fn signed_out(&mut self) -> Device {
        let go_away = self.closed();
        assert_eq!(go_away, Some((ErrorCode::SIGNED_OUT_BY_OTHER_DEVICE, 0)));
        let by = self.events.iter().find_map(|event| match event {
            ClientEvent::Closing { by, .. } => by.clone(),
            _ => None,
        });
        by.expect("a go-away 6208 says who took over")
    }
}

fn owned<User: AsRef<str>>(users: &[User]) -> Vec<String> {
    users.iter().map(|user| user.as_ref().to_owned()).collect()
}

/// What tests compare of a presence: the state, the status, and the platforms with theirs.
pub fn seen(presence: &Presence) -> (OnlineState, &str, Vec<(Platform, OnlineState)>) {
    let platforms = presence.platforms.iter().map(|it| (it.platform(), it.state())).collect();
    (presence.state(), &presence.status, platforms)
}
