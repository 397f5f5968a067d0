//! The server API: what an application's own server asks of the gateway (CON-10).
//!
//! - [`elements`]: message bodies as JSON and as the protocol writes them.
//! - [`fields`]: reading JSON as the published API takes it.

pub mod elements;
pub mod fields;
