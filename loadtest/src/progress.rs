//! How far the run is, on stderr: a line that rewrites itself on a terminal, else a line now and then.

use std::{
    io::IsTerminal,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use indicatif::ProgressBar;

use crate::{
    clock::{Micros, SECOND_US},
    report::grouped,
    worker::Plan,
};

/// Between two lines when stderr is no terminal.
const LINE_INTERVAL_US: Micros = 5 * SECOND_US;

pub(crate) struct Display {
    plan: Arc<Plan>,
    spinner: Option<ProgressBar>,
    next_line_us: Micros,
}

impl Display {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        let spinner = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let Some(spinner) = &spinner {
            spinner.enable_steady_tick(Duration::from_millis(100));
        }
        let next_line_us = plan.clock.now_us() + LINE_INTERVAL_US;
        Display { plan, spinner, next_line_us }
    }

    /// Shows where the run stands.
    pub(crate) fn update(&mut self) {
        let now_us = self.plan.clock.now_us();
        if let Some(spinner) = &self.spinner {
            spinner.set_message(self.state(now_us));
        } else if now_us >= self.next_line_us {
            self.next_line_us = now_us + LINE_INTERVAL_US;
            eprintln!("{}", self.state(now_us));
        }
    }

    /// Leaves the terminal to what comes.
    pub(crate) fn end(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }

    fn state(&self, now_us: Micros) -> String {
        let Plan { board, options, .. } = &*self.plan;
        let start_us = board.start_us.load(Relaxed);
        let (acked, delivered) = (board.total(|p| &p.acked), board.total(|p| &p.delivered));
        let (acked, delivered) = (grouped(acked), grouped(delivered));
        if start_us == 0 {
            let connected = grouped(board.total(|p| &p.connected));
            return format!("connecting: {connected} of {}", grouped(options.connections.into()));
        }
        let elapsed_us = now_us.saturating_sub(start_us);
        if elapsed_us < self.plan.measured_us() {
            let elapsed = elapsed_us as f64 / SECOND_US as f64;
            return format!("{elapsed:.0} of {} s: {acked} acked, {delivered} delivered", options.seconds);
        }
        match board.total(|p| &p.read_back) {
            0 => format!("draining: {acked} acked, {delivered} delivered"),
            read_back => format!("reading back: {} messages", grouped(read_back)),
        }
    }
}
