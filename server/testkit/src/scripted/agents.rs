use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domain::run::Failure;
use ports::agents::{AgentError, Agents, Heard, Invocation, Job, Listener, Program};

/// Coding agents that are there: each is `agent NAME`, with the task on its standard input, its model,
/// its turns and its token in the environment (`MODEL`, `TURNS`, `TOKEN`). What it writes last is its last
/// word, but for a line that begins with `session `; one that begins with `error ` names a failure.
#[derive(Debug)]
pub struct ScriptedAgents {
    names: Vec<String>,
}

impl ScriptedAgents {
    /// Agents of these names. One that is called `broken` cannot be installed.
    pub fn named(names: &[&str]) -> Self {
        Self { names: names.iter().map(|name| (*name).to_owned()).collect() }
    }
}

#[async_trait]
impl Agents for ScriptedAgents {
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    async fn prepare(&self, name: &str) -> Result<Arc<dyn Program>, AgentError> {
        let name = name.to_owned();
        if !self.names.contains(&name) {
            return Err(AgentError::Unknown { name, known: self.names() });
        }
        if name == "broken" {
            return Err(AgentError::InstallFailed { name, why: "nobody is there".to_owned() });
        }
        Ok(Arc::new(Scripted { name }))
    }
}

#[derive(Debug)]
struct Scripted {
    name: String,
}

impl Program for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> &str {
        "1.0"
    }

    fn model(&self) -> &str {
        "small"
    }

    fn spare_calls(&self) -> u32 {
        1
    }

    fn invoke(&self, job: &Job<'_>) -> Invocation {
        let turns = job.turns.to_string();
        let env = [("MODEL", job.model), ("TOKEN", job.token), ("TURNS", &turns), ("PROXY", job.proxy)];
        Invocation {
            command: vec!["agent".to_owned(), self.name.clone()],
            env: env
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            stdin: Bytes::from(job.prompt.to_owned()),
        }
    }

    fn listen(&self) -> Box<dyn Listener> {
        Box::new(Hearing::default())
    }
}

#[derive(Debug, Default)]
struct Hearing {
    said: Option<String>,
    session: Option<String>,
    error: Option<String>,
}

impl Listener for Hearing {
    fn line(&mut self, line: &str) -> Vec<String> {
        if let Some(session) = line.strip_prefix("session ") {
            self.session = Some(session.to_owned());
        } else if let Some(error) = line.strip_prefix("error ") {
            self.error = Some(error.to_owned());
        } else {
            self.said = Some(line.to_owned());
        }
        vec![format!("> {line}")]
    }

    fn end(self: Box<Self>, exit: i32, _: &str) -> Heard {
        let failed = exit != 0 || self.error.is_some();
        let code = self.error.unwrap_or_else(|| "agent_failed".to_owned());
        let failure = failed.then(|| Failure::new(&code, format!("ended with status {exit}")));
        Heard { message: self.said, session: self.session, failure }
    }
}
