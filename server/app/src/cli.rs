//! Everything that can be said on the command line.

pub mod deliveries;
pub mod github;
pub mod inputs;
pub mod models;
pub mod money;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::styling::{AnsiColor, Styles};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use domain::id::RunId;
use domain::name::{Address, Branch, DaemonId, RepositoryPath};
use secrecy::SecretString;

use crate::exit::Exit;
use crate::hook::Hook;
use deliveries::DeliveriesArgs;
use github::GitHubArgs;
use inputs::Input;
use models::ModelsArgs;
use money::{BudgetsArgs, EstimateArgs, SpendArgs};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_CODES: &str = "\
Exit codes:
  0   all went well
  1   a run failed, or what was asked for could not be done
  2   wrong usage
  65  a manifest is invalid
  69  a server, or something else that is needed, is not available
  77  not allowed";

/// Write AI daemons as YAML in git, run them in sandboxes, serve them to a team
#[derive(Debug, Parser)]
#[command(name = "spellbook", version, styles = STYLES, max_term_width = 100, after_help = EXIT_CODES)]
#[command(subcommand_required = true, arg_required_else_help = true, infer_long_args = false)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print JSON: one document, or one object a line where output is a stream
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = When::Auto, hide_possible_values = true)]
    #[arg(help = "When to use colours: auto (on a terminal), always or never")]
    pub color: When,
    /// The server to ask, as http:// or https:// address; without it, the one of the last `login`
    #[arg(long, global = true, value_name = "URL", env = "SPELLBOOK_SERVER", hide_env_values = true)]
    pub server: Option<String>,
    /// The configuration of serve, work, run, test, doctor, migrate, agents and models
    #[arg(long, global = true, value_name = "FILE", env = "SPELLBOOK_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Also in files and pipes.
    Always,
    /// Not at all.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this git repository a spellbook, with a first daemon in it
    #[command(after_help = "Example:\n  spellbook init")]
    Init(InitArgs),
    /// Write a new daemon from a template
    #[command(after_help = "Example:\n  spellbook new code-review --template review")]
    New(NewArgs),
    /// Check daemons and spellbook.yaml, without a server
    #[command(after_help = "Example:\n  spellbook validate daemons/hello")]
    Validate(ValidateArgs),
    /// Format daemons and spellbook.yaml in place
    #[command(after_help = "Example:\n  spellbook fmt --check")]
    Fmt(FmtArgs),
    /// Run a daemon: of a directory on this machine, or of a server
    #[command(
        after_help = "Examples:\n  spellbook run daemons/hello --input who=Ada\n  spellbook run ada/book/review@main --input diff=@change.patch --watch"
    )]
    Run(RunArgs),
    /// Test daemons against recorded answers: no server, no network, no key
    #[command(
        after_help = "Examples:\n  spellbook test\n  spellbook test daemons/triage --filter crash --record"
    )]
    Test(TestArgs),
    /// Start a server
    #[command(after_help = "Example:\n  spellbook serve --listen 0.0.0.0:7717 --data /var/lib/spellbook")]
    Serve(ServeArgs),
    /// Start a worker for the runs of a server on the same data
    #[command(after_help = "Example:\n  spellbook work --data /var/lib/spellbook")]
    Work(WorkArgs),
    /// List the daemons of a server with sync and health
    #[command(after_help = "Example:\n  spellbook list --repository ada/book")]
    List(ListArgs),
    /// Show how repositories, a daemon or a run fare
    #[command(
        after_help = "Examples:\n  spellbook status ada/book/review\n  spellbook status run_0198000000007000800000000000002a"
    )]
    Status(StatusArgs),
    /// Show or change what a daemon keeps from run to run
    #[command(
        after_help = "Examples:\n  spellbook state list ada/book/review\n  spellbook state get ada/book/review@next counter\n  spellbook state set ada/book/review counter 0 --version 7\n  spellbook state remove ada/book/review seen"
    )]
    State(StateArgs),
    /// Show which models a run asked, which it did not, and why
    #[command(after_help = "Example:\n  spellbook explain run_0198000000007000800000000000002a")]
    Explain(ExplainArgs),
    /// Say which daemons answered to an event, which did not, and by which rule
    #[command(
        after_help = "Examples:\n  spellbook why evt_0198000000007000800000000000002a\n  spellbook why https://github.com/acme/app/pull/7\n  spellbook why acme/app#7"
    )]
    Why(WhyArgs),
    /// Prove that the server wrote something on a forge; exits with 1 when it did not
    #[command(
        after_help = "Example:\n  spellbook verify https://github.com/acme/app/issues/8#issuecomment-21"
    )]
    Verify(VerifyArgs),
    /// List what forges and others told a server, and what it made of it
    #[command(
        after_help = "Examples:\n  spellbook deliveries\n  spellbook deliveries forge/github --last 50"
    )]
    Deliveries(DeliveriesArgs),
    /// Print the log of a run
    #[command(after_help = "Example:\n  spellbook logs run_0198000000007000800000000000002a -f")]
    Logs(LogsArgs),
    /// List the files that a run keeps, or fetch them
    #[command(
        after_help = "Examples:\n  spellbook artifacts run_0198000000007000800000000000002a\n  spellbook artifacts run_0198000000007000800000000000002a report --output out"
    )]
    Artifacts(ArtifactsArgs),
    /// Start a new run from a stage of an old one
    #[command(
        after_help = "Example:\n  spellbook replay run_0198000000007000800000000000002a --from Fix --agent claude-opus"
    )]
    Replay(ReplayArgs),
    /// Show what a run changed, or what changed between two versions of a daemon
    #[command(
        after_help = "Examples:\n  spellbook diff run_0198000000007000800000000000002a --stage Fix\n  spellbook diff ada/book/review@v1.1.0 ada/book/review\n  spellbook diff ada/book/review@next"
    )]
    Diff(DiffArgs),
    /// Say what a change would make of daemons, and what they may do more
    #[command(
        after_help = "Examples:\n  spellbook plan\n  spellbook plan daemons/review --base origin/main\n  spellbook plan main...next"
    )]
    Plan(PlanArgs),
    /// Ask a run to end
    #[command(after_help = "Example:\n  spellbook cancel run_0198000000007000800000000000002a")]
    Cancel(CancelArgs),
    /// Say what a run will probably cost, before it runs
    #[command(after_help = "Example:\n  spellbook estimate ada/book/review depth=thorough")]
    Estimate(EstimateArgs),
    /// List budgets for models with what of them is gone, set one, or remove one
    #[command(
        after_help = "Examples:\n  spellbook budgets set repository month 20 --for ada/book\n  spellbook budgets list"
    )]
    Budgets(BudgetsArgs),
    /// Add up what models cost, and what their choice saved
    #[command(after_help = "Example:\n  spellbook spend --by model --since 30d")]
    Spend(SpendArgs),
    /// Sign in to a server and remember it
    #[command(after_help = "Example:\n  spellbook login https://spellbook.example.com")]
    Login(LoginArgs),
    /// Say what this machine offers and lacks
    #[command(after_help = "Example:\n  spellbook doctor")]
    Doctor(DoctorArgs),
    /// Bring the store up to date; `serve` does so by itself
    #[command(after_help = "Example:\n  spellbook migrate --data /var/lib/spellbook")]
    Migrate(MigrateArgs),
    /// List the coding agents of this machine, or install one ahead of its first run
    #[command(
        after_help = "Examples:\n  spellbook agents list\n  spellbook agents install codex claude-code"
    )]
    Agents(AgentsArgs),
    /// Make the GitHub App that a server is
    #[command(
        name = "github",
        after_help = "Example:\n  spellbook github setup --site https://spellbook.example.com --organization acme"
    )]
    GitHub(GitHubArgs),
    /// Say which models are known here and what they cost, without a server
    #[command(
        after_help = "Examples:\n  spellbook models list --capability tools,vision claude\n  spellbook models explain claude-opus\n  spellbook models update --from catalogue.json --check"
    )]
    Models(ModelsArgs),
    /// Print the completions of a shell
    #[command(
        after_help = "Example:\n  spellbook completions bash > ~/.local/share/bash-completion/completions/spellbook"
    )]
    Completions(CompletionsArgs),
    /// Answer one of git's hooks
    #[command(hide = true)]
    GitHook(GitHookArgs),
}

/// Where data is kept.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// The directory where everything is kept that must survive a restart
    #[arg(long, value_name = "DIR", env = "SPELLBOOK_DATA", hide_env_values = true)]
    pub data: Option<PathBuf>,
}

/// `spellbook init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// A directory of the repository
    #[arg(value_name = "PATH", default_value = ".", hide_default_value = true)]
    pub path: PathBuf,
}

/// `spellbook new`
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The daemon's id, which becomes its directory: lower-case letters, digits and single hyphens
    #[arg(value_name = "ID")]
    pub id: DaemonId,
    /// What to begin with
    #[arg(long, short, value_enum, default_value_t = Template::Script)]
    pub template: Template,
}

/// What a new daemon begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// A script in the sandbox
    Script,
    /// A question for a model, with its prompt in a file
    Prompt,
    /// A review of pull requests
    Review,
    /// A call of a web API, and a decision table
    Http,
}

/// `spellbook validate`
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Directories or files to look in; without one, the current directory
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How problems are shown
    #[arg(long, value_enum, default_value_t = ReportFormat::Human)]
    pub format: ReportFormat,
}

/// How problems are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// With code frames
    Human,
    /// As one JSON document
    Json,
    /// As annotations of a GitHub workflow
    Github,
}

/// `spellbook fmt`
#[derive(Debug, Args)]
pub struct FmtArgs {
    /// Directories or files to look in; without one, the current directory
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Change nothing; list what would change, and exit with 1 if there is something
    #[arg(long)]
    pub check: bool,
}

/// `spellbook run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A daemon's directory, or the address of a daemon on a server: owner/repository/id[@ref]
    #[arg(value_name = "PATH|ADDRESS")]
    pub daemon: String,
    /// What the run is given: NAME=VALUE, NAME=@FILE, or NAME=@- for standard input; @@ is an @
    #[arg(long = "input", short, value_name = "NAME=VALUE")]
    pub inputs: Vec<Input>,
    /// The first stage to run anew; what came before is taken from the last run (PATH only)
    #[arg(long, value_name = "STAGE")]
    pub from_stage: Option<String>,
    /// Follow the run on the server until it ends (a PATH is always followed)
    #[arg(long, short)]
    pub watch: bool,
    /// Also write what came of it to a file, as --json writes it (PATH only)
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Where data is kept.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Where the daemon is that is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Directory(PathBuf),
    /// On a server.
    Server(Address),
}

impl RunArgs {
    /// Where the daemon is. What begins with `.` or `/`, or is there on this machine, is a path; an
    /// address is meant otherwise, if it can be one.
    pub fn place(&self) -> Place {
        let path = PathBuf::from(&self.daemon);
        if self.daemon.starts_with(['.', '/']) || path.exists() {
            return Place::Directory(path);
        }
        self.daemon.parse().map_or(Place::Directory(path), Place::Server)
    }
}

/// `spellbook test`
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Daemons' directories, or test files; without one, all daemons in the current directory
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Ask models, servers and coding agents anew, and keep what they answer
    #[arg(long)]
    pub record: bool,
    /// Ask only what has no recording, and keep what is answered
    #[arg(long, conflicts_with = "record")]
    pub record_missing: bool,
    /// Only tests that have this in their name, DAEMON/TEST
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,
    /// Write what came of them as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Fail where a recording was not used
    #[arg(long)]
    pub strict: bool,
}

/// `spellbook serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Put an example spellbook in and run its first daemon
    #[arg(long)]
    pub demo: bool,
    /// Where data is kept.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `spellbook work`
#[derive(Debug, Args)]
pub struct WorkArgs {
    /// Where data is kept.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `spellbook list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of one repository only
    #[arg(long, short, value_name = "OWNER/NAME")]
    pub repository: Option<RepositoryPath>,
    /// On one branch only; without it, on deploy branches
    #[arg(long, short, value_name = "BRANCH")]
    pub branch: Option<Branch>,
}

/// A daemon or a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A run.
    Run(RunId),
    /// A daemon, maybe at another version.
    Daemon(Address),
}

/// Text that names neither a daemon nor a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a run as run_…, all of it, or a daemon as owner/repository/id[@ref]")]
pub struct TargetError;

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let run = text.parse().map(Self::Run).ok();
        run.or_else(|| text.parse().map(Self::Daemon).ok()).ok_or(TargetError)
    }
}

/// `spellbook status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// A daemon (owner/repository/id[@ref]) or a run; without it, all repositories and the last runs
    #[arg(value_name = "ADDRESS|RUN")]
    pub target: Option<Target>,
}

/// `spellbook state`
#[derive(Debug, Args)]
pub struct StateArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: StateCommand,
}

/// What to do with what a daemon keeps.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// List variables and sessions: versions and who wrote them, not what they say
    List(StateListArgs),
    /// Print what a variable is, as JSON; for maintainers
    Get(StateGetArgs),
    /// Set a variable that the daemon declares; for maintainers
    Set(StateSetArgs),
    /// Remove a variable, which is then what it was at first, or a session; for maintainers
    Remove(StateRemoveArgs),
}

/// `spellbook state list`
#[derive(Debug, Args)]
pub struct StateListArgs {
    /// The daemon, on a branch: owner/repository/id[@branch]
    #[arg(value_name = "ADDRESS")]
    pub daemon: Address,
}

/// `spellbook state get`
#[derive(Debug, Args)]
pub struct StateGetArgs {
    /// The daemon, on a branch: owner/repository/id[@branch]
    #[arg(value_name = "ADDRESS")]
    pub daemon: Address,
    /// The variable
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `spellbook state set`
#[derive(Debug, Args)]
pub struct StateSetArgs {
    /// The daemon, on a branch: owner/repository/id[@branch]
    #[arg(value_name = "ADDRESS")]
    pub daemon: Address,
    /// The variable
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it is to be: JSON, or else text
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub value: String,
    /// Only if it has this version, as `list` shows it
    #[arg(long, value_name = "NUMBER")]
    pub version: Option<u64>,
}

/// `spellbook state remove`
#[derive(Debug, Args)]
pub struct StateRemoveArgs {
    /// The daemon, on a branch: owner/repository/id[@branch]
    #[arg(value_name = "ADDRESS")]
    pub daemon: Address,
    /// The variable, or the key of the session
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A session is meant
    #[arg(long)]
    pub session: bool,
}

/// `spellbook explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The run
    #[arg(value_name = "RUN")]
    pub run: RunId,
}

/// `spellbook why`
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// An event, the address of an issue or a pull request, or OWNER/REPOSITORY#NUMBER
    #[arg(value_name = "EVENT|URL|THREAD")]
    pub what: String,
    /// How many events of an issue or a pull request are shown, the newest first
    #[arg(long, short, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub last: u32,
}

/// `spellbook verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The address of a comment, pull request, issue, check, release or commit
    #[arg(value_name = "URL")]
    pub url: String,
}

/// `spellbook logs`
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The run
    #[arg(value_name = "RUN")]
    pub run: RunId,
    /// Go on until the run ends; then exit with 1 if it failed
    #[arg(long, short)]
    pub follow: bool,
}

/// `spellbook artifacts`
#[derive(Debug, Args)]
pub struct ArtifactsArgs {
    /// The run
    #[arg(value_name = "RUN")]
    pub run: RunId,
    /// Fetch these files, in place of listing all
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Where to, below which they keep their paths; here, when it is not said
    #[arg(long, short, value_name = "DIRECTORY", requires = "name")]
    pub output: Option<PathBuf>,
}

/// `spellbook replay`
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The run, which has ended
    #[arg(value_name = "RUN")]
    pub run: RunId,
    /// The first stage to run anew; without it, everything
    #[arg(long, value_name = "STAGE")]
    pub from: Option<String>,
    /// A model or agent to use in place of that stage's own
    #[arg(long, value_name = "MODEL", requires = "from")]
    pub agent: Option<String>,
    /// Follow the new run until it ends
    #[arg(long, short)]
    pub watch: bool,
}

/// `spellbook diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A run, or the older version of a daemon; the only version that is given is compared with the deployed one
    #[arg(value_name = "RUN|ADDRESS")]
    pub from: Target,
    /// The newer version of the daemon
    #[arg(value_name = "ADDRESS", conflicts_with = "stage")]
    pub to: Option<Address>,
    /// What one stage of the run changed; without it, every stage
    #[arg(long, value_name = "STAGE")]
    pub stage: Option<String>,
}

/// `spellbook plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Directories or files to look in, as they are on this machine; or two commits, BASE..HEAD, or BASE...HEAD from where they part
    #[arg(value_name = "PATH|BASE..HEAD")]
    pub what: Option<String>,
    /// The commit that the files are compared with
    #[arg(long, value_name = "REF", default_value = "HEAD")]
    pub base: String,
}

/// `spellbook cancel`
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The run
    #[arg(value_name = "RUN")]
    pub run: RunId,
}

/// `spellbook login`
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The server's address
    #[arg(value_name = "URL")]
    pub url: String,
    /// The one-time sign-in token, or an API token; without it, it is read from standard input,
    /// which keeps it out of the shell's history
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<SecretString>,
}

/// `spellbook doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where data is kept.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `spellbook migrate`
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Where data is kept.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `spellbook agents`
#[derive(Debug, Args)]
pub struct AgentsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AgentsCommand,
}

/// What to do with coding agents.
#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// List them, with what is installed and what is off
    List(AgentsListArgs),
    /// Install some; each is checked against its hash
    Install(AgentsInstallArgs),
}

/// `spellbook agents list`
#[derive(Debug, Args)]
pub struct AgentsListArgs {
    /// Where data is kept.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `spellbook agents install`
#[derive(Debug, Args)]
pub struct AgentsInstallArgs {
    /// Their names
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Where data is kept.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `spellbook completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `spellbook git-hook`
#[derive(Debug, Args)]
pub struct GitHookArgs {
    /// Which hook asks
    #[arg(value_enum)]
    pub hook: Hook,
}

/// Parses a command line; help, the version and what is wrong with it are printed here.
///
/// # Errors
/// How to exit when there is nothing to do any more.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    Cli::try_parse_from(arguments).map_err(|error| {
        // Nobody is left to be told when the terminal itself has gone.
        let _ = error.print().and_then(|()| io::stdout().flush());
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok,
            _ => Exit::Usage,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_has_an_example() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let (name, about) =
                (command.get_name(), command.get_about().map(ToString::to_string).unwrap_or_default());
            assert!((10..=80).contains(&about.len()) && !about.ends_with('.'), "{name}: {about:?}");
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                example.starts_with("Example") && example.contains(&format!("spellbook {name}")),
                "{name}: {example:?}"
            );
            for line in example.lines().skip(1) {
                let words = line.trim().split(" > ").next().unwrap_or_default().split(' ');
                let parsed = Cli::try_parse_from(words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn paths_and_addresses_are_told_apart() {
        let place = |daemon: &str| match Cli::parse_from(["spellbook", "run", daemon]).command {
            Command::Run(args) => args.place(),
            _ => unreachable!("because `run` was said"),
        };
        for path in ["./a/b/c", "/tmp/x", "daemons/hello", ".", "Cargo.toml", "a/b/c/d"] {
            assert_eq!(place(path), Place::Directory(path.into()));
        }
        for address in ["ada/book/review", "ada/book/review@main"] {
            assert_eq!(place(address), Place::Server(address.parse().unwrap()));
        }
    }

    #[test]
    fn tokens_are_not_shown_in_debug_output() {
        let cli = Cli::parse_from(["spellbook", "login", "http://127.0.0.1:1", "--token", "sb_hidden"]);
        assert!(!format!("{cli:?}").contains("sb_hidden"));
    }
}
