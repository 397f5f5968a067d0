//! What can be run. Each scenario is a function from a plan to a report.

mod api;
mod c2c;
mod comeback;
mod crowd;
mod device;
mod engine;
mod feed;
mod feeder;
mod idle;
mod import;
mod login;
mod member;
mod ping;
mod push;
mod readback;
mod talker;

use std::{future::Future, sync::Arc};

use anyhow::Result;

use crate::{options::Scenario, report::Report, worker::Plan};

pub(crate) use engine::run as engine;

/// Runs the plan's scenario against a gateway.
pub(crate) fn run(plan: &Arc<Plan>) -> Result<Report> {
    match plan.options.scenario {
        Scenario::Ping => ping::run(plan),
        Scenario::C2c { reconnect, .. } => c2c::run(plan, reconnect),
        Scenario::Sync(_) | Scenario::Reconnect(_) => feed::run(plan),
        Scenario::Api(options) => api::run(plan, options),
        Scenario::Push(options) => push::run(plan, options),
        Scenario::Group(_) | Scenario::Room(_) => crowd::run(plan),
        Scenario::Idle => idle::run(plan),
        Scenario::Login => login::run(plan),
        // Neither goes to a gateway.
        Scenario::Engine | Scenario::Relay(_) => engine(&plan.options),
    }
}

/// Runs all of them as tasks of this thread, to their end.
async fn join_all<F>(futures: impl IntoIterator<Item = F>)
where
    F: Future<Output = ()> + 'static,
{
    let tasks: Vec<_> = futures.into_iter().map(glommio::spawn_local).collect();
    for task in tasks {
        task.await;
    }
}
