//! The server API: what an application's own server asks of the gateway (CON-10). API.md says what is served.
//!
//! - [`server`]: HTTPS. [`call`]: who calls, and may they; the answer. [`table`]: which commands there are.
//! - [`accounts`], [`profile`], [`sns`], [`messages`], [`past`], [`extensions`], [`contacts`], [`groups`],
//!   [`announcements`], [`config`], [`files`]: what each does.
//! - [`elements`]: message bodies as JSON and as the protocol writes them. [`fields`]: reading JSON as the published
//!   API takes it; [`tags`]: values with names. [`named`]: a result for each account named. [`codes`]: the published
//!   error codes. [`msg_key`], [`beijing`]: names of messages, times.
//!
//! Runs on threads of its own, never on a core's. What changes something goes through the act queue, as clients'
//! requests do; what reads awaits the store. Business rules are the domain's.

mod accounts;
mod announcements;
mod answers;
mod beijing;
pub mod call;
mod codes;
mod config;
mod contacts;
pub mod elements;
mod extensions;
pub mod fields;
mod files;
pub mod groups;
mod messages;
pub mod msg_key;
mod named;
mod past;
mod profile;
pub mod server;
mod sns;
pub mod table;
mod tags;
