//! A daemon as it was understood: every name resolved, every expression parsed, every limit a
//! number. Whoever holds a [`Manifest`] need not look at YAML again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::limits::Limits;
use domain::money::Price;
use domain::name::{Address, DaemonId, SecretName};
use domain::route::{Ability, Route};
use domain::run::ConcurrencyBehavior;
use domain::trigger::Trigger;
use serde_json::Value as Json;

use crate::expression::{Expression, JsonTemplate, Reference, Template};

/// A valid daemon.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The title.
    pub name: String,
    /// The publisher's label for the version.
    pub version: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// Where it stands in the market.
    pub category: Option<Category>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// An SPDX expression, or `proprietary`.
    pub license: Option<String>,
    /// What a user pays.
    pub price: Price,
    /// What a run may be given.
    pub inputs: Vec<Input>,
    /// Its variables, which it keeps from run to run, with what each is before it was ever set.
    pub state: BTreeMap<String, Json>,
    /// When it wants to run.
    pub triggers: Vec<Trigger>,
    /// What it may touch.
    pub permissions: Permissions,
    /// What a run may use.
    pub limits: Limits,
    /// How many runs at once.
    pub concurrency: Option<ConcurrencySpec>,
    /// Its own names for models.
    pub models: BTreeMap<String, ModelAlias>,
    /// Servers whose tools models may call.
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// What it does, in the order of the file.
    pub stages: Vec<Stage>,
    /// What it does when a run failed.
    pub on_failure: Vec<Stage>,
    /// What the server may do with the result.
    pub outcomes: Vec<OutcomeSpec>,
    /// The variables that `outcomes` read.
    pub outcomes_read: BTreeSet<String>,
    /// Whether something reads `event.pull_request.diff`.
    pub reads_diff: bool,
}

impl Manifest {
    /// The daemons of the same repository that it calls, also inside `foreach`.
    pub fn callees(&self) -> BTreeSet<&DaemonId> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&Stage> = self.stages.iter().chain(&self.on_failure).collect();
        while let Some(stage) = open.pop() {
            match &stage.kind {
                StageKind::Daemon(DaemonStage { uses: Callee::Sibling(id), .. }) => drop(found.insert(id)),
                StageKind::Foreach(foreach) => open.extend(&foreach.stages),
                _ => {}
            }
        }
        found
    }
}

/// Where a daemon stands in the market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Software.
    Development,
    /// Texts and pictures.
    Content,
    /// Data.
    Analysis,
    /// Art.
    Creative,
}

/// Something that a run may be given.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Under which name stages see it.
    pub name: String,
    /// What it must be.
    pub kind: InputKind,
    /// For the person who gives it.
    pub description: Option<String>,
    /// What it is when nothing is given; without one it must be given.
    pub default: Option<Json>,
    /// Whether it must be given; true when there is no default and `required` is not false.
    pub required: bool,
}

/// What an input must be.
#[derive(Debug, Clone, PartialEq)]
pub enum InputKind {
    /// One line of text.
    String,
    /// Text of any length.
    Text,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// One of these.
    Enum(Vec<String>),
    /// A file's content.
    File,
    /// Any JSON.
    Json,
    /// Text that is never shown.
    Secret,
}

/// What a daemon may touch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Permissions {
    /// Whether outcomes may change files of the repository: `contents: write`.
    pub contents_write: bool,
    /// Hosts and named sets that the network is open to.
    pub network_allowed: Vec<String>,
    /// Hosts that stay closed all the same.
    pub network_blocked: Vec<String>,
    /// Secrets that its `http` stages may use.
    pub secrets: Vec<SecretName>,
}

impl Permissions {
    /// The hosts and named sets that the network is open to, without those that are blocked.
    pub fn hosts(&self) -> Vec<String> {
        let open = self.network_allowed.iter().filter(|host| !self.network_blocked.contains(host));
        open.cloned().collect()
    }
}

/// How many runs of a group go at once.
#[derive(Debug, Clone)]
pub struct ConcurrencySpec {
    /// What makes two runs members of one group; the daemon itself when absent.
    pub group: Option<Template>,
    /// How many at once.
    pub limit: u32,
    /// What becomes of the next.
    pub behavior: ConcurrencyBehavior,
}

/// A daemon's own name for one of several models.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelAlias {
    /// How one is chosen.
    pub route: Route,
    /// Which, by name.
    pub targets: Vec<String>,
    /// The share of each target, in their order; empty unless `route` is [`Route::Weighted`].
    pub weights: Vec<u32>,
    /// What it must be able to do.
    pub requires: Vec<Ability>,
}

/// A server of the Model Context Protocol.
#[derive(Debug, Clone)]
pub struct McpServer {
    /// How it is reached.
    pub reach: McpReach,
    /// Globs of the tools that may be called; empty is all of them.
    pub allowed: Vec<String>,
    /// How long it may take to start, and to answer a call.
    pub timeout: Option<Duration>,
}

/// How a server is reached.
#[derive(Debug, Clone)]
pub enum McpReach {
    /// It is a program, which runs in the sandbox.
    Program(McpProgram),
    /// It is at an address, which the server calls.
    Address {
        /// Where.
        url: String,
        /// Headers of every call, in order.
        headers: Vec<(String, Template)>,
    },
}

/// A server that is a program.
#[derive(Debug, Clone)]
pub struct McpProgram {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables of its own.
    pub env: BTreeMap<String, Template>,
    /// Which toolchain it sees.
    pub runtime: Option<String>,
}

/// Some tools of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpTools {
    /// Which server.
    pub server: String,
    /// Which of the tools that the server allows.
    pub glob: String,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What it is called; unique among its siblings.
    pub name: String,
    /// The siblings that must have ended before, by name. Already resolved: without `needs` in the
    /// file it is the stage before this one.
    pub needs: Vec<String>,
    /// Runs only if this holds.
    pub condition: Option<Expression>,
    /// The name under which later stages know what it made.
    pub output: Option<String>,
    /// The variables of the daemon that it sets once it has succeeded.
    pub set: BTreeMap<String, JsonTemplate>,
    /// The variables that it reads; not those that only stages inside it read.
    pub reads: BTreeSet<String>,
    /// Its own time limit, below the run's.
    pub timeout: Option<Duration>,
    /// How often it is tried again.
    pub retry: Retry,
    /// Whether the run goes on when it fails.
    pub continue_on_error: bool,
    /// What it does.
    pub kind: StageKind,
}

/// How often, and how soon, a failed stage is tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Retry {
    /// Tries after the first.
    pub limit: u32,
    /// The wait before the first of them.
    pub wait: Duration,
    /// What the wait is multiplied with each time.
    pub factor: f64,
    /// The longest wait; zero when there is no bound.
    pub max_wait: Duration,
}

/// What a stage does.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a daemon has few stages, and is not copied in a hot place")]
pub enum StageKind {
    /// Asks a model.
    Prompt(PromptStage),
    /// Lets a coding agent, or a model with tools, work in the sandbox.
    Agent(AgentStage),
    /// Runs a script in the sandbox.
    Script(ScriptStage),
    /// Runs a script, then asks a model about what came of it.
    Hybrid(HybridStage),
    /// Calls an address, by the server.
    Http(HttpStage),
    /// Asks an image model.
    Image(PromptStage),
    /// Decides by a table.
    Rules(Vec<Rule>),
    /// Waits for people.
    Approval(ApprovalStage),
    /// Runs another daemon.
    Daemon(DaemonStage),
    /// Runs stages for each item of a list.
    Foreach(ForeachStage),
}

impl StageKind {
    /// The word in the manifest.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Prompt(_) => "prompt",
            Self::Agent(_) => "agent",
            Self::Script(_) => "script",
            Self::Hybrid(_) => "hybrid",
            Self::Http(_) => "http",
            Self::Image(_) => "image",
            Self::Rules(_) => "rules",
            Self::Approval(_) => "approval",
            Self::Daemon(_) => "daemon",
            Self::Foreach(_) => "foreach",
        }
    }
}

/// A question for a model.
#[derive(Debug, Clone)]
pub struct PromptStage {
    /// The model, or one of the daemon's own names for models.
    pub agent: String,
    /// What is asked: from `prompt_template`, or the text of `prompt_file`.
    pub prompt: Option<Template>,
    /// What it is asked about.
    pub input: Option<Template>,
    /// What the model is told before.
    pub system: Option<Template>,
    /// What the answer must look like: a JSON Schema.
    pub schema: Option<Json>,
    /// The longest answer, tokens.
    pub max_tokens: Option<u32>,
    /// How freely it answers, 0 to 2.
    pub temperature: Option<f64>,
    /// The key under which the conversation is kept across stages and runs.
    pub session: Option<Template>,
    /// Files of the workspace that go with the question.
    pub attachments: Vec<Template>,
    /// What the model may do in the sandbox.
    pub tools: Vec<Tool>,
    /// What it may call of the daemon's MCP servers.
    pub mcp: Vec<McpTools>,
    /// Turns with tools, at most those of the run's limits.
    pub turns: Option<u32>,
}

/// What a model may do in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tool {
    /// Read files.
    Read,
    /// Write files.
    Write,
    /// Change places in files.
    Edit,
    /// List directories.
    List,
    /// Search in files.
    Search,
    /// Run commands.
    Run,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Edit, Self::List, Self::Search, Self::Run];

    /// The word in the manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Edit => "edit",
            Self::List => "list",
            Self::Search => "search",
            Self::Run => "run",
        }
    }
}

/// Work for a coding agent, or for a model with tools.
#[derive(Debug, Clone)]
pub struct AgentStage {
    /// The question, with the name of the program or of the model as `agent`.
    pub task: PromptStage,
    /// Where it works, relative to the workspace.
    pub working_directory: Option<Template>,
}

/// A script.
#[derive(Debug, Clone)]
pub struct ScriptStage {
    /// Its text, never changed; variables reach it through the environment.
    pub script: String,
    /// The program and options that run it.
    pub shell: Vec<String>,
    /// Which toolchain it sees.
    pub runtime: Option<String>,
    /// Where it runs, relative to the workspace.
    pub working_directory: Option<Template>,
    /// Variables of its own.
    pub env: BTreeMap<String, Template>,
    /// What it reads on its standard input, from `input`.
    pub input: Option<Template>,
    /// What its output must look like, when it is JSON.
    pub schema: Option<Json>,
}

/// A script, then a question about it.
#[derive(Debug, Clone)]
pub struct HybridStage {
    /// The script.
    pub script: ScriptStage,
    /// The question; asked also when the script failed.
    pub question: PromptStage,
    /// `analyze_failures`, `reviewer`, `summarizer`, or the role in free words.
    pub role: String,
}

/// A call of an address.
#[derive(Debug, Clone)]
pub struct HttpStage {
    /// `GET`, `POST`, …
    pub method: String,
    /// Where to.
    pub url: Template,
    /// Headers, in order.
    pub headers: Vec<(String, Template)>,
    /// What is sent.
    pub body: HttpBody,
    /// What the answer must look like, when it is JSON.
    pub schema: Option<Json>,
}

impl HttpStage {
    /// The names that its texts read.
    pub fn references(&self) -> Vec<Reference<'_>> {
        let body = match &self.body {
            HttpBody::None => Vec::new(),
            HttpBody::Json(template) => template.references(),
            HttpBody::Text(template) => template.references(),
        };
        let headers = self.headers.iter().flat_map(|(_, template)| template.references());
        self.url.references().into_iter().chain(headers).chain(body).collect()
    }
}

/// What an `http` stage sends.
#[derive(Debug, Clone)]
pub enum HttpBody {
    /// Nothing.
    None,
    /// JSON.
    Json(JsonTemplate),
    /// Text.
    Text(Template),
}

/// A row of a decision table. The first whose `when` holds decides.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The condition; without one it always holds.
    pub when: Option<Expression>,
    /// The decision.
    pub then: JsonTemplate,
}

/// Waiting for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalStage {
    /// How many must agree.
    pub required: u32,
    /// Who may.
    pub groups: Vec<String>,
    /// What they are asked.
    pub message: Option<String>,
}

/// A call of another daemon.
#[derive(Debug, Clone)]
pub struct DaemonStage {
    /// Which.
    pub uses: Callee,
    /// What it is given.
    pub inputs: BTreeMap<String, JsonTemplate>,
}

/// Which daemon is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callee {
    /// One of the same repository, at the same commit.
    Sibling(DaemonId),
    /// Any other.
    Address(Address),
}

/// Stages for each item of a list.
#[derive(Debug, Clone)]
pub struct ForeachStage {
    /// The list.
    pub items: Template,
    /// The name of the item inside.
    pub variable: String,
    /// How many items at once.
    pub limit: u32,
    /// Whether the manifest says `parallel`, and means it; `foreach` keeps to the order of the list.
    pub parallel: bool,
    /// The stages.
    pub stages: Vec<Stage>,
}

/// Something that the server may do with the result.
#[derive(Debug, Clone)]
pub struct OutcomeSpec {
    /// `create-pull-request`, `add-comment`, …
    pub kind: OutcomeKind,
    /// Only if this holds.
    pub condition: Option<Expression>,
    /// How often at most in one run.
    pub max: u32,
    /// Its other fields, by the name in the manifest.
    pub fields: BTreeMap<String, JsonTemplate>,
}

/// The kinds of things that the server may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutcomeKind {
    /// Offer a change.
    CreatePullRequest,
    /// Change an offered change.
    PushToPullRequestBranch,
    /// Say something.
    AddComment,
    /// Open an issue.
    CreateIssue,
    /// Change an issue.
    UpdateIssue,
    /// Put labels on.
    AddLabels,
    /// Ask people.
    AddReviewers,
    /// Report on a commit.
    CreateCheck,
    /// Set a commit's status.
    SetStatus,
    /// Publish a release.
    CreateRelease,
    /// Keep files.
    UploadArtifact,
    /// Call an address.
    CallWebhook,
    /// Do nothing, with a reason.
    Noop,
}

impl OutcomeKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::CreatePullRequest,
        Self::PushToPullRequestBranch,
        Self::AddComment,
        Self::CreateIssue,
        Self::UpdateIssue,
        Self::AddLabels,
        Self::AddReviewers,
        Self::CreateCheck,
        Self::SetStatus,
        Self::CreateRelease,
        Self::UploadArtifact,
        Self::CallWebhook,
        Self::Noop,
    ];

    /// The word in the manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreatePullRequest => "create-pull-request",
            Self::PushToPullRequestBranch => "push-to-pull-request-branch",
            Self::AddComment => "add-comment",
            Self::CreateIssue => "create-issue",
            Self::UpdateIssue => "update-issue",
            Self::AddLabels => "add-labels",
            Self::AddReviewers => "add-reviewers",
            Self::CreateCheck => "create-check",
            Self::SetStatus => "set-status",
            Self::CreateRelease => "create-release",
            Self::UploadArtifact => "upload-artifact",
            Self::CallWebhook => "call-webhook",
            Self::Noop => "noop",
        }
    }
}
