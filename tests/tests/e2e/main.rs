//! End to end: each test starts gateways of its own and talks to them from outside, over real TLS and a
//! real disk. One program, so that it links once; a module a subject, with its reasons in its header.
//!
//! Random tests print their seed; `KILL_ROUNDS=100` makes the kill test a long one.

#![allow(clippy::expect_used)]

mod admin;
mod attacks;
mod bad_input;
mod churn;
mod disk_full;
mod drain;
mod kill;
mod load;
mod login;
mod messages;
mod production;
mod slow_clients;
mod start;
mod start_refused;
mod sync;
mod tls;
mod usersig_libraries;
