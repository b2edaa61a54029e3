//! Progress of long work: on a terminal only, on standard error, gone when it is done.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// Work that takes a while. It disappears when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

/// Whether there is somebody to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// A terminal.
    Terminal,
    /// A file, a pipe, or a program that reads JSON.
    Nobody,
}

impl Progress {
    /// Work of which nobody knows how long it takes.
    pub(crate) fn spinner(audience: Audience, what: impl Into<Cow<'static, str>>) -> Self {
        let bar = Self::bar(audience, None, "{spinner} {msg} {elapsed:.dim}");
        bar.set_message(what);
        if audience == Audience::Terminal {
            bar.enable_steady_tick(TURN);
        }
        Self { bar }
    }

    /// Work of so many steps.
    pub(crate) fn steps(audience: Audience, what: impl Into<Cow<'static, str>>, count: usize) -> Self {
        let bar = Self::bar(audience, Some(count as u64), "{msg} {bar:30.cyan/dim} {pos}/{len}");
        bar.set_message(what);
        Self { bar }
    }

    fn bar(audience: Audience, length: Option<u64>, template: &str) -> ProgressBar {
        let target = match audience {
            Audience::Terminal => ProgressDrawTarget::stderr(),
            Audience::Nobody => ProgressDrawTarget::hidden(),
        };
        let style = ProgressStyle::with_template(template).expect("because the templates stand above");
        ProgressBar::with_draw_target(length, target).with_style(style)
    }

    /// One step is done.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }

    /// Steps aside while something else is written to the terminal.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
