//! A cassette while it plays, or is recorded.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::scrub::Scrub;
use ports::picture::Picture;
use ports::proxy::VisitReport;

use crate::cassette::{AgentRecording, Cassette, ModelRecording, PictureRecording, WebRecording};
use crate::track::{Lack, Recorded, Track};
use crate::usage::Used;

/// What a tape does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Answers what it has; what it does not have is an error.
    Replay,
    /// Asks everything anew and keeps the answers.
    Record,
    /// Answers what it has, asks the rest and keeps the answers.
    RecordMissing,
}

/// A cassette while it plays.
#[derive(Debug)]
pub struct Tape {
    mode: Mode,
    pub(crate) scrub: Scrub,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) models: Track<ModelRecording>,
    pub(crate) drawings: Track<PictureRecording>,
    /// Pictures, by the names of their files.
    pub(crate) files: BTreeMap<String, Picture>,
    pub(crate) web: Track<WebRecording>,
    pub(crate) agents: Track<AgentRecording>,
    /// Coding agents that were at work, in the order in which they began.
    pub(crate) jobs: Vec<Job>,
    /// What jails did through their doors, by the token of the visit.
    pub(crate) visits: Vec<Visited>,
    misses: Vec<Miss>,
    unrecorded: Vec<String>,
    knocks: Vec<String>,
}

/// A coding agent at work: what is known of it so far.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) token: String,
    pub(crate) recording: AgentRecording,
}

/// A visit through the door of a jail.
#[derive(Debug)]
pub(crate) struct Visited {
    pub(crate) token: String,
    /// Whose it was.
    pub(crate) guest: String,
    pub(crate) report: VisitReport,
}

/// Something that was asked and has no recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// What happened, for people.
    pub message: String,
    /// How it differs from the recording that is most like it.
    pub difference: Option<String>,
}

impl Tape {
    /// A tape with what was recorded before, for a run with these secrets.
    pub fn new(cassette: Cassette, mode: Mode, scrub: Scrub) -> Self {
        let Cassette { models, pictures, web, agents, files, .. } = cassette;
        let state = State {
            models: Track::new(models),
            drawings: Track::new(pictures),
            files,
            web: Track::new(web),
            agents: Track::new(agents),
            jobs: Vec::new(),
            visits: Vec::new(),
            misses: Vec::new(),
            unrecorded: Vec::new(),
            knocks: Vec::new(),
        };
        Self { mode, scrub, state: Mutex::new(state) }
    }

    /// Whether nobody is asked.
    pub(crate) fn is_replay(&self) -> bool {
        self.mode == Mode::Replay
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The recording of what is asked; `None` when it has to be asked, or, in a replay, is missing.
    pub(crate) fn play<R: Recorded>(
        &self,
        what: &str,
        asked: &R,
        track: fn(&mut State) -> &mut Track<R>,
    ) -> Option<R> {
        if self.mode == Mode::Record {
            return None;
        }
        let key = asked.key();
        let mut state = self.state();
        let found = track(&mut state).take(&key);
        if found.is_none() && self.is_replay() {
            let (lack, difference) = track(&mut state).missing(&key, &asked.script());
            let message = match lack {
                Lack::Nothing => format!("{what} is asked, and nothing of the kind is recorded"),
                Lack::Changed => format!("{what} is asked something that has no recording"),
                Lack::Spent => format!("{what} is asked the same more often than is recorded"),
            };
            state.misses.push(Miss { message, difference });
        }
        found
    }

    /// Notes down what cannot be right about the recordings.
    pub(crate) fn miss(&self, message: String) {
        self.state().misses.push(Miss { message, difference: None });
    }

    /// Notes down that an answer cannot be kept.
    pub fn refuse(&self, why: String) {
        self.state().unrecorded.push(why);
    }

    /// Notes down that a program wanted out.
    pub(crate) fn knock(&self, request: String) {
        let mut state = self.state();
        if !state.knocks.contains(&request) {
            state.knocks.push(request);
        }
    }

    /// What was asked and has no recording.
    pub fn misses(&self) -> Vec<Miss> {
        self.state().misses.clone()
    }

    /// Why answers could not be recorded.
    pub fn not_recorded(&self) -> Vec<String> {
        self.state().unrecorded.clone()
    }

    /// What programs wanted of the network and did not get, each once: text of others.
    pub fn knocks(&self) -> Vec<String> {
        self.state().knocks.clone()
    }

    /// What was asked of the recordings that nobody needed; nothing when they are made anew anyway.
    pub fn unused(&self) -> Vec<String> {
        if self.mode == Mode::Record {
            return Vec::new();
        }
        let state = self.state();
        let asked = state.models.unused().chain(state.drawings.unused());
        asked.chain(state.web.unused()).chain(state.agents.unused()).collect()
    }

    /// The names of the guests for whom coding agents were at work, as [`ports::proxy::Guest::name`] has them:
    /// whoever knows what they changed tells it by [`Tape::changed`].
    pub fn workers(&self) -> Vec<String> {
        let state = self.state();
        let visit = |job: &Job| state.visits.iter().find(|visit| visit.token == job.token);
        state.jobs.iter().filter_map(visit).map(|visit| visit.guest.clone()).collect()
    }

    /// What a coding agent changed, as a patch.
    pub fn changed(&self, guest: &str, patch: &str) {
        let mut state = self.state();
        let State { jobs, visits, .. } = &mut *state;
        for visit in visits.iter().filter(|visit| visit.guest == guest) {
            for job in jobs.iter_mut().filter(|job| job.token == visit.token) {
                patch.clone_into(&mut job.recording.done.changed);
            }
        }
    }

    /// What is to be kept.
    pub fn cassette(&self) -> Cassette {
        let mut state = self.state();
        let jobs = std::mem::take(&mut state.jobs);
        for Job { token, mut recording } in jobs {
            let visit = state.visits.iter().find(|visit| visit.token == token);
            let calls = visit.map(|visit| visit.report.calls.as_slice()).unwrap_or_default();
            recording.done.usage = calls.iter().map(Used::from).collect();
            state.agents.keep(recording);
        }
        let mut cassette = Cassette::default();
        if self.mode == Mode::Record {
            cassette.models = state.models.recorded();
            cassette.pictures = state.drawings.recorded();
            cassette.web = state.web.recorded();
            cassette.agents = state.agents.recorded();
        } else {
            cassette.models = state.models.all();
            cassette.pictures = state.drawings.all();
            cassette.web = state.web.all();
            cassette.agents = state.agents.all();
        }
        let files = state.files.iter();
        let files: BTreeMap<_, _> = files
            .filter(|(name, _)| cassette.pictures().contains(name.as_str()))
            .map(|(name, picture)| (name.clone(), picture.clone()))
            .collect();
        cassette.files = files;
        cassette
    }
}
