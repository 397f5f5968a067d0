//! The harness: puts load on a gateway, measures what clients see, and checks that nothing acknowledged is
//! lost, stored twice or out of order.
//!
//! - [`options`]: the command line. [`scenario`]: what can be run. [`report`]: what comes out.
//! - [`mod@run`], [`worker`]: threads, the measured time, the server's figures around it.
//! - [`client`], [`tls`], [`alarm`]: a connection, cheap enough that a core drives thousands.
//! - [`http`]: calls of the server API.
//! - [`payload`], [`mod@mix`], [`ledger`], [`follower`]: messages that can be checked, and the checking.
//! - [`mod@relay`]: a long way, on one machine.
//! - [`timetable`]: when devices come and go.
//! - [`pace`], [`tally`], [`clock`]: when to send, and what is counted and timed.

mod alarm;
mod client;
mod clock;
mod follower;
mod http;
mod ledger;
mod mix;
mod options;
mod pace;
mod payload;
mod progress;
mod relay;
mod report;
mod run;
mod scenario;
mod server;
mod spread;
mod tally;
mod timetable;
mod tls;
mod worker;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, Result, bail};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    clock::Clock,
    options::{Format, Options, Scenario},
    worker::{Board, Plan},
};

/// Many short allocations of many connections: what glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_BROKEN_PROMISE: u8 = 1;
const EXIT_NO_RUN: u8 = 2;

fn main() -> ExitCode {
    match run(Options::parse().with_defaults()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_BROKEN_PROMISE),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(EXIT_NO_RUN)
        }
    }
}

/// Runs the scenario and prints the result. Returns whether the server kept its promises.
fn run(options: Options) -> Result<bool> {
    if let Scenario::Relay(relay) = &options.scenario {
        return relay::run(relay).map(|()| true);
    }
    options.check()?;
    let format = options.report;
    raise_open_files(&options)?;
    let report = match options.scenario {
        // No gateway takes part: neither its application nor its certificate is needed.
        Scenario::Engine => scenario::engine(&options)?,
        _ => {
            let plan = Arc::new(plan(options)?);
            eprintln!("seed {}, users {}…", plan.seed, plan.user_name(0));
            scenario::run(&plan)?
        }
    };
    for note in report.notes() {
        eprintln!("  {note}");
    }
    match format {
        Format::Json => println!("{}", report.json()),
        Format::Table => print!("{}", report.table()),
    }
    Ok(report.is_good())
}

fn plan(options: Options) -> Result<Plan> {
    let random = getrandom::u64().context("no randomness")?;
    Ok(Plan {
        app: options.app()?,
        tls: Arc::new(tls::config(&options.ca_files()?)?),
        targets: options.targets()?,
        run: random as u32,
        seed: options.seed.unwrap_or(random >> 32),
        clock: Clock::start(),
        board: Board::new(options.threads, options.connections),
        options,
    })
}

/// Takes as many open files as the system allows, and says so if they are too few.
fn raise_open_files(options: &Options) -> Result<()> {
    const BESIDE_CONNECTIONS: u64 = 64;
    let needed = options.open_files() + BESIDE_CONNECTIONS;
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    match limit.maximum {
        Some(maximum) if maximum < needed => {
            bail!(
                "--connections {} needs {needed} open files, the limit is {maximum}: raise it (ulimit -n)",
                options.connections
            )
        }
        _ => Ok(()),
    }
}
