//! One run from start to end: starts the threads, sets the measured time, takes the server's figures
//! around it, shows progress, and adds everything up.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    clock::Micros,
    progress::Display,
    server::{self, Figures},
    tally::Tally,
    worker::{Plan, Worker},
};

/// The ring moves no files: it needs next to no registered memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// From the moment that everybody is ready to the start of the measurement.
const START_DELAY_US: Micros = 20_000;
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// The server before the first connection, at the start and at the end of the measurement.
    pub(crate) before: Option<Figures>,
    pub(crate) start: Option<Figures>,
    pub(crate) end: Option<Figures>,
    /// The harness's own processor time while it measured, in seconds: it may share the machine.
    pub(crate) own_cpu_seconds: Option<f64>,
}

/// Runs `work` on every thread.
pub(crate) fn on_all_threads<W, F>(plan: &Arc<Plan>, work: W) -> Result<Outcome>
where
    W: Fn(Rc<Worker>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>> + 'static,
{
    let mut outcome = Outcome { before: server::figures(&plan.options.admin), ..Outcome::default() };
    let threads =
        (0..plan.options.threads).map(|index| spawn(plan, index, work.clone())).collect::<Result<Vec<_>>>()?;
    let mut display = Display::new(plan.clone());
    follow(plan, &mut outcome, &mut display);
    display.end();
    for thread in threads {
        outcome.tally.add(thread.join().map_err(|error| anyhow!("a thread died: {error}"))?);
    }
    match plan.board.failure.get() {
        Some(reason) => bail!("{reason}"),
        None => Ok(outcome),
    }
}

/// Follows the threads until they have finished.
fn follow(plan: &Plan, outcome: &mut Outcome, display: &mut Display) {
    let (board, options, clock) = (&plan.board, &plan.options, plan.clock);
    let take_end = |outcome: &mut Outcome, cpu_before: f64| {
        outcome.end = server::figures(&options.admin);
        outcome.own_cpu_seconds = Some(own_cpu_seconds() - cpu_before);
    };
    let (mut is_measured, mut cpu_before) = (false, 0.0);
    while board.finished.load(Relaxed) < options.threads {
        let start_us = board.start_us.load(Relaxed);
        if start_us == 0 && board.ready.load(Relaxed) == options.threads {
            outcome.start = server::figures(&options.admin);
            cpu_before = own_cpu_seconds();
            board.start_us.store(clock.now_us() + START_DELAY_US, Relaxed);
        }
        if start_us > 0 && !is_measured && clock.now_us() >= start_us + plan.measured_us() {
            is_measured = true;
            take_end(outcome, cpu_before);
        }
        display.update();
        thread::sleep(POLL_INTERVAL);
    }
    if !is_measured {
        take_end(outcome, cpu_before); // where nothing is left to do after the measured time, the threads end with it
    }
}

/// The processor time of this process so far.
fn own_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn spawn<W, F>(plan: &Arc<Plan>, index: u32, work: W) -> Result<ExecutorJoinHandle<Tally>>
where
    W: Fn(Rc<Worker>) -> F + Send + 'static,
    F: Future<Output = Result<()>> + 'static,
{
    let plan = plan.clone();
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("load")
        .io_memory(IO_MEMORY_BYTES)
        .spawn(move || async move {
            let _finished = Finished(plan.clone());
            let worker = Rc::new(Worker::new(plan.clone(), index));
            let ticker = glommio::spawn_local({
                let worker = worker.clone();
                async move { worker.tick().await }
            });
            let result = work(worker.clone()).await;
            ticker.cancel().await;
            if let Err(error) = result {
                _ = plan.board.failure.set(format!("{error:#}")); // an earlier one is the cause
            }
            worker.publish();
            worker.tally.take()
        })
        .map_err(|error| anyhow!("{error}"))
        .context("cannot start an executor; io_uring must be allowed, and `ulimit -l` be 512 KiB or more")
}

/// Counts the thread as finished however it ends, so that the main thread never waits for a dead one.
struct Finished(Arc<Plan>);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.board.finished.fetch_add(1, Relaxed);
    }
}
