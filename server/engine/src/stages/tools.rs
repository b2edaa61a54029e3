//! What a model may do in the sandbox: its tools, and how a call of one is done. Each call is a jail of
//! its own at the stage's desk, so that nothing of a call outlives it but the files.
//!
//! What the model wrote reaches a program as an argument or on its standard input, never as a part of a
//! script; but for `run`, which is what a script is.

mod call;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use domain::stage::StageUsage;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use manifest::model::Tool;
use ports::models::{Tool as Offered, ToolCall, ToolResult};
use ports::sandbox::{JailEnd, Stdin};

use super::excerpt::{head, tail};
use super::jail::{self, Audience, Done, Plan};
use super::script;
use super::servers::Servers;
use super::{At, Trouble};
use crate::workspace::Desk;
use call::{Call, Edit, Read, Run, Search, Write};

const TOOLS: &str = include_str!("tools/tools.json");

/// How much of a file or of an output a model is shown at once, bytes.
const SHOWN: usize = 24 << 10;
/// The largest file that is edited, bytes: no more of an output is kept.
const EDITED: usize = 1 << 20;
/// How many calls that change nothing are done at the same time.
const AT_ONCE: usize = 4;

/// The tools of one stage, at its desk.
#[derive(Debug)]
pub(super) struct Tools<'a> {
    at: &'a At<'a>,
    desk: &'a Desk,
    directory: PathBuf,
    allowed: Vec<Tool>,
    servers: Servers,
    used: Mutex<StageUsage>,
}

/// What came of a call: words for the model, of success or of failure.
type Outcome = Result<String, String>;

impl<'a> Tools<'a> {
    pub(super) fn new(
        at: &'a At<'a>,
        (desk, directory): (&'a Desk, PathBuf),
        allowed: &[Tool],
        servers: Servers,
    ) -> Self {
        Self { at, desk, directory, allowed: allowed.to_vec(), servers, used: Mutex::default() }
    }

    /// The servers, of which leave is to be taken, and what the calls have used.
    pub(super) fn end(self) -> (Servers, StageUsage) {
        (self.servers, self.used.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// All tools as a model is told of them.
    pub(super) fn all(&self) -> Vec<Offered> {
        let mut all = Self::offered(&self.allowed);
        all.extend(self.servers.offered());
        all
    }

    /// Our own tools as a model is told of them.
    fn offered(allowed: &[Tool]) -> Vec<Offered> {
        #[derive(serde::Deserialize)]
        struct Entry {
            name: String,
            description: String,
            parameters: serde_json::Value,
        }
        let all: Vec<Entry> = serde_json::from_str(TOOLS).expect("because a test reads the same file");
        let allowed = |entry: &Entry| allowed.iter().any(|tool| tool.as_str() == entry.name);
        let entries = all.into_iter().filter(allowed);
        entries
            .map(|Entry { name, description, parameters }| Offered { name, description, parameters })
            .collect()
    }

    /// Does the calls of one answer. Neighbours that change nothing are done at the same time, the others
    /// one after the other, as the model wrote them.
    ///
    /// # Errors
    /// When there is no jail to be had; what goes wrong in one is a result.
    pub(super) async fn call(&self, wanted: &[ToolCall]) -> Result<Vec<ToolResult>, Trouble> {
        let calls: Vec<_> = wanted.iter().map(|wanted| self.meant(wanted)).collect();
        let mut results = Vec::with_capacity(calls.len());
        for neighbours in calls.chunk_by(|one, next| is_quiet(one) && is_quiet(next)) {
            let calls: Vec<BoxFuture<'_, _>> = neighbours.iter().map(|call| self.one(call).boxed()).collect();
            let done: Vec<_> = stream::iter(calls).buffered(AT_ONCE).collect().await;
            for result in done {
                results.push(result?);
            }
        }
        Ok(results)
    }

    fn meant(&self, wanted: &ToolCall) -> Result<Call, String> {
        match self.servers.find(wanted) {
            Some(foreign) => foreign.map(Call::Foreign),
            None => Call::read(wanted, &self.allowed, &self.servers.names()),
        }
    }

    async fn one(&self, call: &Result<Call, String>) -> Result<ToolResult, Trouble> {
        let outcome = match call {
            Err(why) => Err(why.clone()),
            Ok(call) => {
                let outcome = self.act(call).await?;
                let failure = outcome.as_ref().err().and_then(|why| why.lines().next());
                self.at.note(match failure {
                    None => format!("▸ {call}"),
                    Some(why) => format!("▸ {call}: {why}"),
                });
                outcome
            }
        };
        let failed = outcome.is_err();
        Ok(ToolResult { text: outcome.unwrap_or_else(|why| why), failed })
    }

    async fn act(&self, call: &Call) -> Result<Outcome, Trouble> {
        match call {
            Call::Read(read) => self.read(read).await,
            Call::Write(write) => self.write(write).await,
            Call::Edit(edit) => self.edit(edit).await,
            Call::List(list) => self.list(&list.path, list.depth).await,
            Call::Search(search) => self.search(search).await,
            Call::Run(run) => self.run(run).await,
            Call::Foreign(foreign) => self.servers.call(foreign, self.at).await,
        }
    }

    async fn read(&self, read: &Read) -> Result<Outcome, Trouble> {
        let last = read.first.saturating_add(read.lines) - 1;
        let range = format!("{},{last}p;{last}q", read.first);
        let done = self.quietly(["sed", "-n", "-e", &range, "--", &read.path], Bytes::new()).await?;
        let text = String::from_utf8_lossy(&done.stdout);
        Ok(match self.failure(&done) {
            Some(why) => Err(why),
            None if text.is_empty() && read.first == 1 => Ok("(the file is empty)".to_owned()),
            None if text.is_empty() => Err(format!("the file has fewer than {} lines", read.first)),
            None => {
                let shown = head(&text, SHOWN);
                let lines = shown.lines().count() as u64;
                // A file may be longer than was asked for: where it ends is not known then.
                let whole = shown.len() == text.len() && lines < read.lines;
                let from = read.first;
                let rest =
                    format!("\n(lines {from} to {}; go on with line {})", from + lines - 1, from + lines);
                Ok(if whole { text.into_owned() } else { format!("{}{rest}", shown.trim_end_matches('\n')) })
            }
        })
    }

    async fn write(&self, write: &Write) -> Result<Outcome, Trouble> {
        let done = self.put(&write.path, &write.content).await?;
        Ok(match self.failure(&done) {
            Some(why) => Err(why),
            None => Ok(format!("{} bytes are written", write.content.len())),
        })
    }

    /// Writes a file in the place of what is there, so that it keeps its mode.
    async fn put(&self, path: &str, content: &str) -> Result<Done, Trouble> {
        let script = r#"mkdir -p -- "$(dirname -- "$1")" && cat > "$1""#;
        self.quietly(["sh", "-c", script, "sh", path], Bytes::from(content.to_owned())).await
    }

    async fn edit(&self, edit: &Edit) -> Result<Outcome, Trouble> {
        let done = self.quietly(["cat", "--", &edit.path], Bytes::new()).await?;
        if let Some(why) = self.failure(&done) {
            return Ok(Err(why));
        }
        if done.stdout.len() >= EDITED {
            return Ok(Err("the file is too large to be edited".to_owned()));
        }
        let Ok(text) = String::from_utf8(done.stdout) else {
            return Ok(Err("the file is not UTF-8 text".to_owned()));
        };
        let edited = match edit.apply(&text) {
            Ok(edited) => edited,
            Err(why) => return Ok(Err(why)),
        };
        let done = self.put(&edit.path, &edited).await?;
        Ok(self.failure(&done).map_or_else(|| Ok("it is replaced".to_owned()), Err))
    }

    async fn list(&self, path: &str, depth: u64) -> Result<Outcome, Trouble> {
        let (depth, path) = (depth.to_string(), relative(path));
        let command = [
            "find",
            &path,
            "-mindepth",
            "1",
            "-maxdepth",
            &depth,
            "-name",
            ".git",
            "-prune",
            "-o",
            "-type",
            "d",
            "-printf",
            "%p/\\n",
            "-o",
            "-printf",
            "%p\\n",
        ];
        let done = self.quietly(command, Bytes::new()).await?;
        let text = String::from_utf8_lossy(&done.stdout);
        let mut paths: Vec<&str> = text.lines().map(|line| line.strip_prefix("./").unwrap_or(line)).collect();
        paths.sort_unstable();
        Ok(match self.failure(&done) {
            Some(why) => Err(why),
            None if paths.is_empty() => Ok("(nothing is there)".to_owned()),
            None => Ok(cut_after(&paths.join("\n"), "look into one of the directories")),
        })
    }

    async fn search(&self, search: &Search) -> Result<Outcome, Trouble> {
        let path = relative(&search.path);
        let mut command = vec!["grep", "-rnIE", "--exclude-dir=.git"];
        let files = search.files.as_ref().map(|files| format!("--include={files}"));
        command.extend(files.as_deref());
        command.extend(search.ignore_case.then_some("-i"));
        command.extend(["-e", &search.pattern, "--", &path]);
        let done = self.quietly(command, Bytes::new()).await?;
        let text = String::from_utf8_lossy(&done.stdout);
        let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix("./").unwrap_or(line)).collect();
        Ok(match (&done.end, self.failure(&done)) {
            // That is how it says that it found nothing.
            (JailEnd::Exited(1), _) if done.stderr.is_empty() => Ok("(it is nowhere)".to_owned()),
            // It may have found something besides what it could not read.
            (_, Some(why)) if lines.is_empty() => Err(why),
            _ => Ok(cut_after(&lines.join("\n"), "look for something rarer")),
        })
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Trouble> {
        let plan = Plan {
            command: ["bash", "-c", &run.command].map(str::to_owned).to_vec(),
            stdin: Stdin::nothing(),
            env: script::environment(self.at),
            directory: self.directory.clone(),
            runtime: None,
            visit: script::visit(self.at),
            audience: Audience::Log,
        };
        let limit = Duration::from_secs(run.seconds);
        let cancel = self.at.cancel.child_token();
        let running = self.counted(plan, cancel.clone());
        tokio::pin!(running);
        let (done, late) = tokio::select! {
            done = &mut running => (done?, false),
            () = tokio::time::sleep(limit) => {
                cancel.cancel();
                (running.await?, true)
            }
        };
        let how = match &done.end {
            JailEnd::Exited(status) => format!("It exited with status {status}."),
            _ if late => format!("It took longer than {} s and was ended.", limit.as_secs()),
            _ => self.failure(&done).map_or_else(String::new, |why| format!("It {why}.")),
        };
        let mut text = how;
        for (name, bytes) in [("standard output", &done.stdout), ("standard error", &done.stderr)] {
            if !bytes.is_empty() {
                text.push_str(&format!("\n\n{name}:\n{}", tail(&String::from_utf8_lossy(bytes), SHOWN / 2)));
            }
        }
        Ok(if matches!(done.end, JailEnd::Exited(0)) { Ok(text) } else { Err(text) })
    }

    /// Runs a program whose output is for the model only.
    async fn quietly<'s>(
        &self,
        command: impl IntoIterator<Item = &'s str>,
        stdin: Bytes,
    ) -> Result<Done, Trouble> {
        let plan = Plan {
            command: command.into_iter().map(|word| word.replace('\0', "")).collect(),
            stdin: stdin.into(),
            env: [("LC_ALL".to_owned(), "C.UTF-8".to_owned())].into(),
            directory: self.directory.clone(),
            runtime: None,
            visit: None,
            audience: Audience::Nobody,
        };
        self.counted(plan, self.at.cancel.clone()).await
    }

    async fn counted(
        &self,
        plan: Plan,
        cancel: tokio_util::sync::CancellationToken,
    ) -> Result<Done, Trouble> {
        let mut done = jail::run_at(self.desk, plan, self.at, cancel).await?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).add(std::mem::take(&mut done.usage));
        Ok(done)
    }

    /// Why a program failed, in its own words where it has some.
    fn failure(&self, done: &Done) -> Option<String> {
        let said = String::from_utf8_lossy(&done.stderr);
        let said = said.trim();
        match (&done.end, done.trouble(self.at)) {
            (JailEnd::Exited(_), Some(_)) if !said.is_empty() => Some(tail(said, SHOWN / 8)),
            (_, trouble) => trouble.map(|trouble| trouble.failure.message),
        }
    }
}

/// Whether a call changes nothing.
fn is_quiet(call: &Result<Call, String>) -> bool {
    matches!(call, Err(_) | Ok(Call::Read(_) | Call::List(_) | Call::Search(_)))
}

/// A path that no program takes for an option.
fn relative(path: &str) -> String {
    if path.starts_with('-') { format!("./{path}") } else { path.to_owned() }
}

/// The beginning of a list, and what to do about the rest of it.
fn cut_after(text: &str, advice: &str) -> String {
    let shown = head(text, SHOWN);
    if shown.len() == text.len() { text.to_owned() } else { format!("{shown}\n(there is more: {advice})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_described() {
        let names: Vec<String> = Tools::offered(&Tool::ALL).into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, Tool::ALL.map(|tool| tool.as_str()));
        for tool in Tools::offered(&Tool::ALL) {
            manifest::schema::validate(&serde_json::json!({ "type": "object" }), &tool.parameters).unwrap();
        }
        assert_eq!(Tools::offered(&[Tool::Run]).len(), 1);
    }

    #[test]
    fn a_long_list_is_shown_in_part() {
        let text = (0..9_000).map(|n| format!("line {n}\n")).collect::<String>();
        let shown = cut_after(&text, "ask less");
        assert!(shown.len() < SHOWN + 64 && shown.starts_with("line 0\n"), "{shown}");
        assert!(shown.ends_with("\n(there is more: ask less)"), "{shown}");
        assert_eq!(cut_after("a", "ask less"), "a");
    }
}
