//! The tables of commands (client to server) and pushes (server to client).
//!
//! A code is never given a second meaning: a retired row stays, commented, with its number.

/// When a command may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only before login.
    BeforeLogin,
    /// Only once logged in.
    AfterLogin,
}

impl Access {
    /// As written in WIRE.md.
    pub fn as_str(self) -> &'static str {
        match self {
            Access::BeforeLogin => "before login",
            Access::AfterLogin => "after login",
        }
    }
}

macro_rules! command_table {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $name:literal, $access:ident, $request:ident => $reply:ident;)+) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Command {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Command {
            /// Every command, in the order of the table.
            pub const ALL: &[Command] = &[$(Command::$variant,)+];

            /// The command of a wire code.
            pub fn from_code(code: u32) -> Option<Command> {
                match code {
                    $($code => Some(Command::$variant),)+
                    _ => None,
                }
            }

            /// The wire code.
            pub fn code(self) -> u32 {
                match self {
                    $(Command::$variant => $code,)+
                }
            }

            /// The name, for documents, logs and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Command::$variant => $name,)+
                }
            }

            /// When it may be called.
            pub fn access(self) -> Access {
                match self {
                    $(Command::$variant => Access::$access,)+
                }
            }

            /// Names of the request's and the reply's message.
            pub fn messages(self) -> (&'static str, &'static str) {
                match self {
                    $(Command::$variant => (stringify!($request), stringify!($reply)),)+
                }
            }
        }
    };
}

command_table! {
    /// Proves who the user is.
    Login = 1, "login", BeforeLogin, Login => LoginReply;
    /// Stores a message.
    Send = 16, "send", AfterLogin, Send => SendReply;
    /// Reads the event log behind a cursor.
    Sync = 17, "sync", AfterLogin, Sync => SyncReply;
    /// Reads a page of a conversation.
    History = 18, "history", AfterLogin, History => HistoryReply;
}

/// What a push is about. A client skips topics it doesn't know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A new entry of the user's event log; payload `EventPush`.
    Event,
    /// Live pushes were dropped: sync from the last cursor; no payload.
    Behind,
}

impl Topic {
    /// Every topic, in the order of the table.
    pub const ALL: &[Topic] = &[Topic::Event, Topic::Behind];

    /// The topic of a wire code.
    pub fn from_code(code: u32) -> Option<Topic> {
        Topic::ALL.iter().copied().find(|topic| topic.code() == code)
    }

    /// The wire code.
    pub fn code(self) -> u32 {
        match self {
            Topic::Event => 1,
            Topic::Behind => 2,
        }
    }

    /// The name, for documents and logs.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Event => "event",
            Topic::Behind => "behind",
        }
    }
}
