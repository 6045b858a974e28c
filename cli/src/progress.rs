//! A bar on the terminal for work that takes over a second.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter work shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counts bytes or hosts of a known total; shown on standard error if that is a terminal, and gone when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    pub(crate) fn bytes(total: u64) -> Self {
        Self::new(total, "{bar:40} {bytes} of {total_bytes}, {eta} left")
    }

    pub(crate) fn hosts(total: usize) -> Self {
        let template = "{bar:40} {human_pos} of {human_len} hosts, {eta} left";
        Self::new(total as u64, template)
    }

    fn new(total: u64, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            started: Instant::now(),
        }
    }

    /// So many more are done.
    pub(crate) fn add(&self, more: u64) {
        let late = self.started.elapsed() > PATIENCE;
        if late && self.bar.is_hidden() && stderr().is_terminal() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(more);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
