//! Git's hooks. Git runs `spellbook git-hook …`, which asks the server over a socket and prints what it
//! says: what is decided about a push is decided in one place, by the server that serves it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use domain::event::Actor;
use domain::id::RepositoryId;
use engine::World;
use engine::admission::{self, BranchUpdate, Push};
use engine::reconcile::Pushed;
use git::hook::{HookInput, refuse_hidden};
use ports::source::View;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest question, bytes: ten thousand refs with long names.
const LONGEST: u64 = 8 << 20;

/// Which hook asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Before a push is accepted.
    PreReceive,
    /// After it was.
    PostReceive,
}

/// What a hook asks.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    hook: Hook,
    repository: RepositoryId,
    user: String,
    input: HookInput,
}

/// What the server says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    accepted: bool,
    text: String,
}

/// Asks the server on behalf of git; gives whether the push is accepted, and what to print.
///
/// # Errors
/// When the server cannot be asked: git then refuses the push.
pub(crate) async fn ask(
    hook: Hook,
    stdin: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<(bool, String)> {
    let need = |name: &str| variable(name).with_context(|| format!("git did not pass {name} on"));
    let question = Question {
        hook,
        repository: need(crate::smart_http::HOOK_REPOSITORY)?.parse()?,
        user: need(crate::smart_http::HOOK_USER)?,
        input: HookInput::from_environment(stdin, &variable)?,
    };
    let socket = need(git::HOOK_SOCKET)?;
    let mut stream = UnixStream::connect(&socket).await.context("the server does not answer")?;
    let mut line = serde_json::to_vec(&question)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    let answer: Answer = serde_json::from_slice(&answer).context("the server did not finish its answer")?;
    Ok((answer.accepted, answer.text))
}

/// A socket that only this user can open, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct HookSocket {
    listener: UnixListener,
    directory: tempfile::TempDir,
}

impl HookSocket {
    /// Binds it. In a temporary directory of its own, because a socket's path may be no longer than 107
    /// bytes (see `man 7 unix`) and the data directory's may be anything.
    pub(crate) fn bind() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("spellbook-").tempdir()?;
        let listener = UnixListener::bind(directory.path().join("hook"))?;
        Ok(Self { listener, directory })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("hook")
    }

    /// What git must pass on to its hooks.
    pub(crate) fn environment(&self, program: &Path) -> Vec<(String, String)> {
        vec![
            (git::HOOK_PROGRAM.to_owned(), program.display().to_string()),
            (git::HOOK_SOCKET.to_owned(), self.path().display().to_string()),
        ]
    }

    /// Answers until the server stops.
    pub(crate) async fn serve(
        self,
        world: Arc<World>,
        git: git::Git,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (world, git) = (Arc::clone(&world), git.clone());
                    tasks.spawn(async move {
                        if let Err(error) = answer(&world, &git, stream).await {
                            tracing::warn!(error = format!("{error:#}"), "a hook got no answer");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "the hook socket"),
            }
        }
    }
}

async fn answer(world: &World, git: &git::Git, stream: UnixStream) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST)).read_line(&mut line).await?;
    let question: Question = serde_json::from_str(&line)?;
    let answer = match question.hook {
        Hook::PreReceive => review(world, git, &question).await,
        Hook::PostReceive => received(world, &question).await,
    };
    write.write_all(&serde_json::to_vec(&answer)?).await?;
    Ok(write.shutdown().await?)
}

async fn review(world: &World, git: &git::Git, question: &Question) -> Answer {
    if let Some(reason) = refuse_hidden(&question.input.updates) {
        return Answer { accepted: false, text: format!("{reason}\n") };
    }
    let push = Push {
        repository: question.repository,
        quarantine: question.input.quarantine.clone(),
        updates: question.input.updates.iter().filter_map(branch_update).collect(),
    };
    match admission::review(world, &push).await {
        Ok(review) if !review.accepted => Answer { accepted: false, text: review.text },
        Ok(review) => {
            // Runs may refer to what a force-push takes away.
            let view = View { repository: push.repository, quarantine: push.quarantine };
            match git.keep_replaced(&view, &question.input.updates).await {
                Ok(()) => Answer { accepted: true, text: review.text },
                Err(error) => Answer { accepted: false, text: format!("error: {error}\n") },
            }
        }
        Err(refusal) => Answer { accepted: false, text: format!("error: {refusal}\n") },
    }
}

async fn received(world: &World, question: &Question) -> Answer {
    let pushed = Pushed {
        branches: question.input.updates.iter().filter_map(|update| update.branch()).collect(),
        actor: Some(Actor { name: question.user.clone(), role: Some("write".to_owned()), bot: false }),
        skip_runs: question
            .input
            .push_options
            .iter()
            .any(|option| matches!(option.as_str(), "skip" | "spellbook.skip")),
    };
    match admission::received(world, question.repository, &pushed).await {
        Ok(text) => Answer { accepted: true, text },
        // The push is accepted; the next look at the repository deploys it.
        Err(refusal) => Answer { accepted: true, text: format!("warning: not deployed yet: {refusal}\n") },
    }
}

fn branch_update(update: &git::hook::RefUpdate) -> Option<BranchUpdate> {
    Some(BranchUpdate { branch: update.branch()?, from: update.old.clone(), to: update.new.clone() })
}
