//! `mcp_servers`, and the tools of them that stages name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::trigger::globs_select;

use super::Check;
use super::names::{Moment, Visible};
use super::triggers::glob_fault;
use crate::codes;
use crate::diagnostic::Problem;
use crate::expression::Template;
use crate::model::{McpProgram, McpReach, McpServer, McpTools, Permissions, Tool};
use crate::raw::daemon::Daemon;
use crate::raw::mcp as raw;
use crate::raw::scalar::{Line, Templated};
use crate::read::{Place, Slot};
use crate::suggest::{did_you_mean, one_of, quoted};

/// The longest name of a server: it is the beginning of its tools' names, which have 64 letters.
const LONGEST_NAME: usize = 32;
/// The most servers of a daemon.
const MOST: usize = 16;

/// The servers that a daemon declares, and which of them something uses.
#[derive(Debug, Default)]
pub(super) struct Declared {
    allowed: BTreeMap<String, Vec<String>>,
    used: BTreeSet<String>,
}

impl Check<'_> {
    /// The servers of the daemon.
    pub(super) fn servers(
        &mut self,
        daemon: &Daemon,
        permissions: &Permissions,
        inputs: &[String],
        run: Duration,
    ) -> BTreeMap<String, McpServer> {
        let mut servers = BTreeMap::new();
        let Some((named, place)) = daemon.mcp_servers.found() else { return servers };
        self.at_most(named.0.len(), MOST, place);
        for (name, key, server) in &named.0 {
            self.server_name(name, *key);
            let Some((raw, _)) = server.found() else {
                self.servers.allowed.insert(name.clone(), Vec::new());
                continue;
            };
            let allowed = self.globs(&raw.allowed);
            self.servers.allowed.insert(name.clone(), allowed.clone());
            let timeout = self.stage_timeout(&raw.timeout, run);
            let reach = self.reach(raw, *key, permissions, inputs);
            servers.extend(reach.map(|reach| (name.clone(), McpServer { reach, allowed, timeout })));
        }
        servers
    }

    fn server_name(&mut self, name: &str, place: Place) {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if !plain || name.is_empty() || name.len() > LONGEST_NAME || name.contains("__") {
            let message = format!("{} cannot be the name of an MCP server", quoted(name));
            let problem = Problem::error(&codes::BAD_SERVER_NAME, message);
            let rule = "at most 32 letters, digits, hyphens and single underscores";
            self.reader.report(problem.expected(rule), place);
        }
    }

    /// A program or an address, with the keys of one only.
    fn reach(
        &mut self,
        raw: &raw::McpServer,
        key: Place,
        permissions: &Permissions,
        inputs: &[String],
    ) -> Option<McpReach> {
        let program = [raw.args.place(), raw.env.place(), raw.runtime.place()];
        let (others, kind) = match (raw.command.place(), raw.url.place()) {
            (Some(_), Some(place)) => {
                let message = "`url` and `command` exclude one another";
                self.reader.report(Problem::error(&codes::KEYS_EXCLUDE, message).help("keep one"), place);
                return None;
            }
            (None, None) => {
                let problem = Problem::error(&codes::SERVER_SHAPE, "how this server is reached is not said");
                self.reader.report(problem.expected("a `command` or a `url`"), key);
                return None;
            }
            (Some(_), None) => (vec![raw.headers.place()], "a program has no `headers`"),
            (None, Some(_)) => (program.to_vec(), "an address has no `args`, `env` and `runtime`"),
        };
        for place in others.into_iter().flatten() {
            self.reader.report(Problem::error(&codes::SERVER_SHAPE, kind), place);
        }
        match raw.url.found() {
            Some((Line(url), place)) => self.address(raw, (url, place), permissions, inputs),
            None => self.program(raw, inputs),
        }
    }

    fn program(&mut self, raw: &raw::McpServer, inputs: &[String]) -> Option<McpReach> {
        let Line(program) = raw.command.get()?;
        let env = self.env(&raw.env, &Visible::new(inputs, Moment::Before));
        let runtime = raw.runtime.found().map(|(Line(name), place)| self.runtime(name, place));
        let args = raw.args.get().into_iter().flatten().filter_map(Slot::get);
        let command = std::iter::once(program).chain(args.map(|Line(arg)| arg)).cloned().collect();
        Some(McpReach::Program(McpProgram { command, env, runtime }))
    }

    fn address(
        &mut self,
        raw: &raw::McpServer,
        (url, place): (&str, Place),
        permissions: &Permissions,
        inputs: &[String],
    ) -> Option<McpReach> {
        if url.contains("${") {
            let problem = Problem::error(&codes::BAD_URL, "the address of a server is written, not computed");
            self.reader.report(problem.help("secrets and inputs can stand in its `headers`"), place);
            return None;
        }
        self.url(&Template::parse(url).ok()?, place);
        self.named_host(url, place, permissions);
        let visible = Visible::new(inputs, Moment::Connection);
        let mut headers: Vec<(String, Template)> = Vec::new();
        for (name, key, value) in raw.headers.get().map_or(&[][..], |named| &named.0) {
            self.header(name, *key);
            self.template_names(value, &visible);
            headers.extend(value.get().map(|Templated(value)| (name.clone(), value.clone())));
        }
        Some(McpReach::Address { url: url.to_owned(), headers })
    }

    /// Whether the network is open to the host of an address. Sets of hosts are the operator's to know.
    fn named_host(&mut self, url: &str, place: Place, permissions: &Permissions) {
        let hosts = permissions.hosts();
        let is_set = |entry: &String| !entry.contains(['.', ':']) && entry != "localhost";
        let Some((scheme, rest)) = url.split_once("://") else { return };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default().to_lowercase();
        if authority.contains('@') {
            return;
        }
        let usual = if scheme == "http" { ":80" } else { ":443" };
        let bare = authority.strip_suffix(usual).unwrap_or(&authority);
        let parent = bare.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let names = |entry: &String| {
            let entry = entry.strip_suffix(usual).unwrap_or(entry);
            entry == bare || parent.as_deref() == Some(entry)
        };
        if !hosts.iter().any(|entry| is_set(entry) || names(entry)) {
            let message = format!("the network is not open to {}", quoted(bare));
            let blocked = permissions.network_blocked.iter().any(names);
            let (verb, list) = if blocked {
                ("remove", "from `permissions.network.blocked`")
            } else {
                ("add", "to `permissions.network.allowed`")
            };
            let help = format!("{verb} `{bare}` {list}");
            self.reader.report(Problem::error(&codes::CLOSED_SERVER, message).help(help), place);
        }
    }

    /// The tools that a stage names: ours, and those of servers.
    pub(super) fn tools(&mut self, slot: &Slot<Vec<Slot<raw::Tool>>>) -> (Vec<Tool>, Vec<McpTools>) {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (tool, place) in slot.get().into_iter().flatten().filter_map(Slot::found) {
            match tool {
                raw::Tool::Own(tool) => own.push(*tool),
                raw::Tool::Other(word) => self.unknown_tool(word, place),
                raw::Tool::Of(server, glob) => {
                    self.named_tools(server, glob, place);
                    others.push(McpTools { server: server.clone(), glob: glob.clone() });
                }
            }
        }
        (own, others)
    }

    fn unknown_tool(&mut self, word: &str, place: Place) {
        let of_servers: Vec<String> = self.servers.allowed.keys().map(|name| format!("{name}/*")).collect();
        let help = match of_servers.iter().find(|all| all.strip_suffix("/*") == Some(word)) {
            Some(all) => Some(format!("did you mean `{all}`?")),
            None => did_you_mean(word, Tool::ALL.map(Tool::as_str)),
        };
        let known = format!("{}, or a server's as `SERVER/TOOL`", one_of(Tool::ALL.map(Tool::as_str)));
        let problem = Problem::error(&codes::UNKNOWN_WORD, format!("{} is not known here", quoted(word)));
        self.reader.report(problem.expected(known).maybe_help(help), place);
    }

    fn named_tools(&mut self, server: &str, glob: &str, place: Place) {
        let Some(allowed) = self.servers.allowed.get(server) else {
            let message = format!("there is no MCP server {}", quoted(server));
            let help = did_you_mean(server, self.servers.allowed.keys().map(String::as_str))
                .unwrap_or_else(|| "declare it under `mcp_servers`".to_owned());
            self.reader.report(Problem::error(&codes::UNKNOWN_SERVER, message).help(help), place);
            return;
        };
        let is_name = !glob.contains(['*', '?', '[', '{']);
        if is_name && !allowed.is_empty() && !globs_select(allowed, glob) {
            let message = format!("the tool {} of {} is not allowed", quoted(glob), quoted(server));
            let help = did_you_mean(glob, allowed.iter().map(String::as_str))
                .unwrap_or_else(|| "name it in the server's `allowed`".to_owned());
            self.reader.report(Problem::error(&codes::UNKNOWN_SERVER, message).help(help), place);
        }
        if let Some(problem) = glob_fault(glob) {
            self.reader.report(problem, place);
        }
        self.servers.used.insert(server.to_owned());
    }

    /// A stage offers the tools of every server.
    pub(super) fn all_servers_used(&mut self) {
        self.servers.used.extend(self.servers.allowed.keys().cloned());
    }

    /// Warns of servers that no stage uses; comes after the stages.
    pub(super) fn unused_servers(&mut self, daemon: &Daemon) {
        for (name, place, _) in daemon.mcp_servers.get().map_or(&[][..], |named| &named.0) {
            if !self.servers.used.contains(name) {
                let message = format!("no model is offered the tools of {}", quoted(name));
                let problem = Problem::warning(&codes::UNUSED_SERVER, message);
                let help = format!("name `{name}/*` among the `tools` of a stage with a model, or remove it");
                self.reader.report(problem.help(help), *place);
            }
        }
    }
}
