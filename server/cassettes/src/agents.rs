//! Coding agents from a tape. A replay does not run the program: what it changed is applied at its desk, in a
//! jail like the one in which it worked, and what it said is said again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use domain::run::Failure;
use ports::agents::{AgentError, Agents, Heard, Invocation, Job, Listener, Program};

use crate::cassette::{AgentRecording, Failed, Given, Worked};
use crate::tape::{self, Tape};

/// Calls of models besides its turns: a program that does not run is not held to them.
const SPARE_CALLS: u32 = 1 << 20;

/// Coding agents that work from a tape.
#[derive(Debug)]
pub struct TapedAgents {
    tape: Arc<Tape>,
    real: Arc<dyn Agents>,
}

impl TapedAgents {
    /// With these behind it, which a replay asks nothing but their names.
    pub fn new(tape: Arc<Tape>, real: Arc<dyn Agents>) -> Self {
        Self { tape, real }
    }
}

#[async_trait]
impl Agents for TapedAgents {
    fn names(&self) -> Vec<String> {
        self.real.names()
    }

    async fn prepare(&self, name: &str) -> Result<Arc<dyn Program>, AgentError> {
        let recorded = self.tape.state().agents.all();
        let recorded = recorded.into_iter().find(|recording| recording.job.agent == name);
        let real = if self.tape.is_replay() { None } else { Some(self.real.prepare(name).await?) };
        let (version, model) = match (&real, recorded) {
            (Some(real), _) => (real.version().to_owned(), real.model().to_owned()),
            (None, Some(AgentRecording { job, done, .. })) => (done.version, job.model),
            (None, None) => ("(not recorded)".to_owned(), String::new()),
        };
        Ok(Arc::new(TapedProgram {
            tape: Arc::clone(&self.tape),
            real,
            name: name.to_owned(),
            version,
            model,
            heard: Mutex::new(Ears::Shut),
        }))
    }
}

#[derive(Debug)]
struct TapedProgram {
    tape: Arc<Tape>,
    /// Nobody in a replay.
    real: Option<Arc<dyn Program>>,
    name: String,
    version: String,
    model: String,
    /// Who listens next.
    heard: Mutex<Ears>,
}

/// Who listens to a program.
#[derive(Debug)]
enum Ears {
    /// It was not asked to work yet.
    Shut,
    /// It works, and what it says is kept under its token.
    Open(String),
    /// It worked long ago.
    Recorded(Heard),
}

impl TapedProgram {
    fn hears(&self, ears: Ears) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = ears;
    }

    fn given(&self, job: &Job<'_>) -> Given {
        let prompt = self.tape.scrub.text(job.prompt);
        Given { agent: self.name.clone(), model: job.model.to_owned(), prompt }
    }

    fn replay(&self, job: &Job<'_>, done: Worked) -> Invocation {
        self.tape.bill(job.token, done.usage.iter().map(Into::into).collect());
        self.hears(Ears::Recorded(Heard {
            message: done.said,
            session: None,
            failure: done.failure.map(|failed| Failure::new(&failed.code, failed.message)),
        }));
        // From the root of the workspace, whatever directory the stage works in.
        let apply = ["git", "-C", "/work", "apply", "--whitespace=nowarn", "-"];
        let command = if done.changed.is_empty() { vec!["true"] } else { apply.to_vec() };
        Invocation {
            command: command.into_iter().map(str::to_owned).collect(),
            env: BTreeMap::new(),
            stdin: Bytes::from(done.changed),
        }
    }
}

impl Program for TapedProgram {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn spare_calls(&self) -> u32 {
        self.real.as_ref().map_or(SPARE_CALLS, |real| real.spare_calls())
    }

    fn invoke(&self, job: &Job<'_>) -> Invocation {
        let done = Worked { version: self.version.clone(), ..Worked::default() };
        let blank = AgentRecording { shown: String::new(), job: self.given(job), done };
        if let Some(recording) = self.tape.play(&self.name, &blank, |state| &mut state.agents) {
            return self.replay(job, recording.done);
        }
        let Some(real) = &self.real else {
            let message = "was not recorded for this prompt; `spellbook test --record` lets it work";
            let failure = Some(Failure::new("not_recorded", message));
            self.hears(Ears::Recorded(Heard { failure, ..Heard::default() }));
            let command = vec!["true".to_owned()];
            return Invocation { command, env: BTreeMap::new(), stdin: Bytes::new() };
        };
        self.hears(Ears::Open(job.token.to_owned()));
        self.tape.state().jobs.push(tape::Job { token: job.token.to_owned(), recording: blank });
        real.invoke(job)
    }

    fn listen(&self) -> Box<dyn Listener> {
        let ears =
            std::mem::replace(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner), Ears::Shut);
        let tape = Arc::clone(&self.tape);
        match (ears, &self.real) {
            (Ears::Open(token), Some(real)) => Box::new(Recorder { tape, token, real: real.listen() }),
            (Ears::Recorded(heard), _) => Box::new(Replayer { tape, name: self.name.clone(), heard }),
            (Ears::Open(_) | Ears::Shut, _) => {
                Box::new(Replayer { tape, name: self.name.clone(), heard: Heard::default() })
            }
        }
    }
}

/// Keeps what a program says.
#[derive(Debug)]
struct Recorder {
    tape: Arc<Tape>,
    token: String,
    real: Box<dyn Listener>,
}

impl Listener for Recorder {
    fn line(&mut self, line: &str) -> Vec<String> {
        self.real.line(line)
    }

    fn end(self: Box<Self>, exit: i32, stderr: &str) -> Heard {
        let heard = self.real.end(exit, stderr);
        let mut state = self.tape.state();
        if let Some(job) = state.jobs.iter_mut().find(|job| job.token == self.token) {
            job.recording.done.said.clone_from(&heard.message);
            job.recording.done.failure = heard.failure.as_ref().map(|failure| Failed {
                code: failure.code.clone(),
                message: failure.message.clone(),
                retry: false,
            });
        }
        heard
    }
}

/// Says what was said once.
#[derive(Debug)]
struct Replayer {
    tape: Arc<Tape>,
    name: String,
    heard: Heard,
}

impl Listener for Replayer {
    fn line(&mut self, line: &str) -> Vec<String> {
        vec![line.to_owned()]
    }

    fn end(self: Box<Self>, exit: i32, stderr: &str) -> Heard {
        if exit == 0 {
            return self.heard;
        }
        let why = stderr.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let message = format!("what it changed when it was recorded does not fit the files any more: {why}");
        self.tape.miss(format!("{}: {message}", self.name));
        Heard { failure: Some(Failure::new("not_recorded", message)), ..Heard::default() }
    }
}
