//! End to end: each test starts gateways of its own and talks to them from outside, over real TLS and a
//! real disk. One program, so that it links once; a module a subject, with its reasons in its header.
//!
//! Random tests print their seed; `KILL_ROUNDS=100` makes the kill test a long one.

#![allow(clippy::expect_used)]

mod admin;
mod admission;
mod api_accounts;
mod api_announcements;
mod api_calls;
mod api_config;
mod api_contacts;
mod api_group_import;
mod api_group_messages;
mod api_groups;
mod api_messages;
mod api_past;
mod api_profile;
mod api_rooms;
mod api_sns;
mod applications;
mod attacks;
mod bad_input;
mod callbacks;
mod callbacks_edits;
mod callbacks_groups;
mod callbacks_groups_asked;
mod callbacks_people;
mod changes;
mod churn;
mod convergence;
mod conversation_state;
mod conversations;
mod cores;
mod devices;
mod disk_full;
mod drain;
mod edges;
mod edges_strangers;
mod expiry;
mod extensions;
mod foundationdb;
mod friends;
mod group_rates;
mod group_recipients;
mod group_search;
mod groups;
mod groups_table;
mod history;
mod intruders;
mod kill;
mod link_files;
mod load;
mod locate;
mod login;
mod merged;
mod messages;
mod online_only;
mod presence;
mod production;
mod profile;
mod regions;
mod rooms;
mod send_limit;
mod slow_clients;
mod start;
mod start_over;
mod start_refused;
mod sync;
mod tls;
mod types;
mod upgrade;
mod usersig_libraries;
