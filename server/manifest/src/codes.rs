//! All codes, with what they mean. `docs/diagnostics.md` is made from this table, and every code has an
//! invalid fixture or a test of its own. A code is never given a second meaning.

/// A code of a diagnostic.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `SB0101`.
    pub id: &'static str,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// Why it is wrong, and what to do.
    pub explanation: &'static str,
    /// A piece of a file that has it; empty when no text can show it.
    pub example: &'static str,
}

macro_rules! codes {
    ($($name:ident = $id:literal, $title:literal, $explanation:literal, $example:literal;)*) => {
        $(pub(crate) static $name: Code = Code { id: $id, title: $title, explanation: $explanation, example: $example };)*

        /// All codes, in order.
        pub static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    // The file as bytes and as YAML.
    NO_MANIFEST = "SB0001", "no manifest",
        "A daemon's directory holds `daemon.yaml` (or `daemon.yml`). Add one, or remove the directory.", "";
    NOT_A_FILE = "SB0002", "not a regular file",
        "Symbolic links and submodules are never followed, whatever they point to. Commit the file itself.", "";
    FILE_TOO_LARGE = "SB0003", "file too large",
        "A manifest or a file that it names may have at most 1 MiB.", "";
    NOT_UTF8 = "SB0004", "not UTF-8",
        "Files are read as UTF-8. Save the file in that encoding.", "";
    YAML_SYNTAX = "SB0005", "not YAML",
        "The file is empty, or not YAML 1.2. The place is where the parser gave up; the mistake may be a little earlier.",
        "daemon:\n  name: [one, two\n";
    DUPLICATE_KEY = "SB0006", "duplicate key",
        "A map has each key once. Which of two would be meant cannot be told.",
        "daemon:\n  name: One\n  name: Two\n";
    YAML_FEATURE = "SB0007", "YAML feature not understood",
        "Tags, merge keys, aliases inside their own anchor, and several documents in one file are not understood.",
        "daemon: !include other.yaml\n";
    YAML_BOUNDS = "SB0008", "too deep or too many values",
        "A file may be 48 levels deep, hold 50,000 values and use 200 aliases.", "";
    TOO_MANY = "SB0009", "more problems",
        "Only the first hundred problems of a check are shown.", "";
    TWO_MANIFESTS = "SB0010", "two manifests",
        "A directory holds `daemon.yaml` or `daemon.yml`, not both. Remove one.", "";
    BAD_DAEMON_ID = "SB0011", "not a daemon id",
        "A daemon is called as its directory: lower-case letters, digits and single hyphens, at most 64. Rename the directory.", "";
    DUPLICATE_ID = "SB0012", "two daemons with one id",
        "The last part of a daemon's directory is its id, and an id is used once in a repository. Rename one of the directories.", "";

    // Shapes.
    UNKNOWN_KEY = "SB0101", "unknown key",
        "The key has no meaning here. Unknown keys are refused because a misspelt one would silently do nothing.",
        "daemon:\n  name: Greeter\n  stagse: []\n";
    MISSING_KEY = "SB0102", "missing key",
        "The map lacks a key that it must have.",
        "daemon:\n  name: Greeter\n";
    WRONG_KIND = "SB0103", "wrong kind of value",
        "The value is of another kind than expected. A text that looks like a number or a truth value needs quotes.",
        "version: 1.2\n";
    UNKNOWN_WORD = "SB0104", "unknown word",
        "Only certain words can stand here.",
        "category: develpment\n";
    BAD_TEXT = "SB0105", "text not usable",
        "The text is empty, too long, has several lines or control characters where one line is expected.",
        "name: \"\"\n";
    OUT_OF_RANGE = "SB0106", "number out of range",
        "The number is too small or too large.",
        "temperature: 3\n";
    MISPLACED_KEY = "SB0107", "key of another type",
        "The key exists, but not for a stage or trigger of this type. `foreach` and `daemon` have no `retry`: the stages inside have it, because what has succeeded is not done again.",
        "- name: Test\n  type: script\n  script: npm test\n  request: { url: https://example.org }\n";
    KEYS_EXCLUDE = "SB0108", "keys exclude one another",
        "Two keys say the same in different ways. Keep one.",
        "- name: Ask\n  agent: gpt-5\n  prompt_template: Hello\n  prompt_file: prompts/hello.md\n";
    TOO_LONG_LIST = "SB0109", "too many items",
        "A list may have 200 items where nothing else is said: 200 stages with those inside `foreach`, 20 tags, 50 triggers, 50 outcomes.", "";

    // What it is.
    BAD_PRICE = "SB0201", "not a price",
        "A price is `free`, an amount like `$4.99`, or a map. Amounts are US dollars, from one cent (for `per-run`: any) to $999,999.99.",
        "price: { amount: 4.99, currency: USD, model: weekly }\n";
    BAD_LICENSE = "SB0202", "not a licence",
        "A licence is an SPDX expression (`MIT`, `Apache-2.0 OR MIT`, `CC-BY-4.0`) or `proprietary`. See the list at spdx.org.",
        "license: MTI\n";
    UNSELLABLE = "SB0203", "price without a licence that allows selling",
        "A price needs a licence under which something can be sold. A non-commercial licence forbids it (an error); without any licence the buyer gets no rights (a warning).",
        "license: CC-BY-NC-4.0\nprice: $4.99\n";
    BAD_DEFAULT = "SB0204", "default does not fit",
        "The default of an input must be of the input's type, and one of the options of an `enum`. A secret has no default.",
        "inputs:\n  - { name: depth, type: enum, options: [quick, thorough], default: deep }\n";
    BAD_IDENTIFIER = "SB0205", "not a name",
        "Inputs, outputs and secrets are variables in scripts and expressions: letters, digits and `_`, not beginning with a digit.",
        "inputs:\n  - { name: app-idea }\n";
    DUPLICATE_NAME = "SB0206", "name used twice",
        "Inputs, outputs and stages are found by name, so a name is used once. Two stages may have the same output if each has an `if`.",
        "inputs:\n  - { name: depth }\n  - { name: depth }\n";
    RESERVED_NAME = "SB0207", "reserved name",
        "`event`, `inputs`, `stages`, `state`, `workspace`, `secrets`, `run`, `repository` and `item` have a meaning in expressions and cannot be inputs or outputs.",
        "inputs:\n  - { name: event }\n";
    BAD_OPTIONS = "SB0208", "options and type do not fit",
        "An input of the type `enum` has at least one option, and no other type has any.",
        "inputs:\n  - { name: depth, type: enum }\n";

    // When it runs.
    UNKNOWN_TRIGGER = "SB0301", "unknown trigger",
        "There is no trigger of this name.",
        "on: { comments: {} }\n";
    BAD_CRON = "SB0302", "not a schedule",
        "A schedule has five fields (minute, hour, day of month, month, day of week) and strikes at some time, or reads `daily between 9:00 and 17:00`.",
        "on: { schedule: { cron: \"0 9 30 2 *\" } }\n";
    BAD_TIME_ZONE = "SB0303", "unknown time zone",
        "Time zones are named as in the IANA database: `Europe/Berlin`, `UTC`.",
        "on: { schedule: { cron: \"0 9 * * 1\", timezone: Europe/Berln } }\n";
    RESERVED_COMMAND = "SB0304", "command not usable",
        "A command is a word of lower-case letters, digits and hyphens that no other bot answers to.",
        "on: { comment: { command: approve } }\n";
    BAD_GLOB = "SB0305", "not a glob",
        "Globs have `*`, `**`, `?`, `[…]` and `{…,…}`, all of them closed, at most 200 characters.",
        "on: { push: { branches: [\"release/[\"] } }\n";
    BAD_DAEMON_NAME = "SB0306", "not a daemon of this repository",
        "A trigger names daemons by their ids.",
        "on: { daemon: { ids: [Review] } }\n";

    // What it may touch and use.
    ABOVE_CEILING = "SB0401", "limit above the ceiling",
        "The operator of this server allows less. Ask for less, or ask the operator.",
        "limits: { memory: 64GiB }\n";
    BAD_QUANTITY = "SB0402", "quantity not understood",
        "Times are written like `90s`, `15m` or `1h30m`, sizes like `512MiB` or `2GiB`, amounts like `$0.50`.",
        "limits: { timeout: 15 minutes }\n";
    ZERO_LIMIT = "SB0403", "limit of nothing",
        "With a limit of zero nothing can run.",
        "limits: { memory: 0B }\n";
    BAD_HOST = "SB0404", "not a host",
        "Hosts are names (`api.snyk.io`, `*.example.org`), with a port if it is not 443 (`example.org:8443`); no scheme and no path. An address is written plainly: `192.168.1.7:8443`, `[fd00::7]:8443`.",
        "permissions: { network: { allowed: [\"https://api.snyk.io/v1\"] } }\n";
    UNKNOWN_NETWORK_SET = "SB0405", "unknown set of hosts",
        "A word without a dot names a set of hosts. This one is not known, and opens nothing unless the operator defines it.",
        "permissions: { network: { allowed: [nodejs] } }\n";
    UNDECLARED_SECRET = "SB0406", "secret not declared",
        "A secret can be used only if `permissions.secrets` names it, and is used by its name.",
        "request: { url: https://example.org, headers: { Authorization: \"${secrets.TOKEN}\" } }\n";
    MISPLACED_SECRET = "SB0407", "secret outside a request",
        "Secrets never enter a sandbox, a prompt or an outcome. Only the `request` of an `http` stage and the `headers` of an MCP server can hold `${secrets.NAME}`.",
        "- name: Deploy\n  type: script\n  script: ./deploy\n  env: { TOKEN: \"${secrets.TOKEN}\" }\n";
    UNUSED_SECRET = "SB0408", "secret not used",
        "`permissions.secrets` names a secret that nothing uses. Remove it: fewer permissions, more trust.",
        "permissions: { secrets: [UNUSED] }\n";
    STAGE_TIMEOUT = "SB0409", "stage may take longer than its run",
        "A stage ends with its run. Shorten the stage's `timeout`, or lengthen `limits.timeout`.",
        "limits: { timeout: 5m }\nstages:\n  - { name: Test, type: script, script: npm test, timeout: 10m }\n";
    NEEDS_WRITE = "SB0410", "outcome needs a permission",
        "This outcome pushes to the repository and needs `permissions.contents: write`.",
        "outcomes:\n  - push-to-pull-request-branch: {}\n";
    NEAR_HOST = "SB0411", "host that may be closed",
        "The address of a machine, a name without a dot, or `localhost`. The server reaches private addresses and itself only where its operator's `allow_private` names host and port; elsewhere the call fails.",
        "permissions: { network: { allowed: [\"127.0.0.1:8080\"] } }\n";

    // What it does.
    STAGE_COUNT = "SB0501", "no stages, or too many",
        "A daemon has at least one stage and at most 200, with those inside `foreach`.",
        "stages: []\n";
    UNKNOWN_STAGE = "SB0502", "unknown stage",
        "No stage of this name stands in the same list.",
        "needs: [Analyse]\n";
    CYCLE = "SB0503", "stages wait for one another",
        "Stages whose `needs` form a circle never begin.",
        "stages:\n  - { name: A, type: script, script: ls, needs: [B] }\n  - { name: B, type: script, script: ls, needs: [A] }\n";
    UNTYPED_STAGE = "SB0504", "stage of no type",
        "Without `type`, a stage has an `agent` or a `script`.",
        "- name: Something\n";
    BAD_USES = "SB0505", "not a daemon's address",
        "`uses` is `./id` for a daemon of the same repository, or `owner/repository/id@ref`.",
        "uses: review\n";
    UNPINNED = "SB0506", "daemon not pinned",
        "A daemon of another repository is named with a version: `@` and a whole commit id. Without any `@ref` it is an error; a branch or a tag can move, which is worth a warning.",
        "uses: ada/book/review\n";
    UNKNOWN_MODEL = "SB0507", "unknown model or agent",
        "The name is neither a model that this server knows, nor a coding agent, nor one of the daemon's own `models`.",
        "agent: gtp-5\n";
    BAD_SCHEMA = "SB0508", "not a JSON Schema",
        "`schema` is a JSON Schema of draft 2020-12, at most 64 KiB; `$ref` stays inside it, and patterns have no look-around and no back-references.",
        "schema: { type: strng }\n";
    UNKNOWN_RUNTIME = "SB0509", "unknown runtime",
        "This server has no toolchain of this name.",
        "runtime: nodejs\n";
    DEAD_RULE = "SB0510", "rule never reached",
        "A row without `when` always decides, so the rows after it never do.",
        "rules:\n  - { then: answer }\n  - { when: urgent, then: escalate }\n";
    BAD_URL = "SB0511", "not an address to call",
        "The server calls `https` addresses of named hosts, without a user name or password in them.",
        "request: { url: \"http://127.0.0.1/\" }\n";
    BAD_HEADER = "SB0512", "not a header",
        "A header's name is a token of HTTP, and the server sets `Host`, `Content-Length` and `Transfer-Encoding` itself.",
        "headers: { \"X Y\": z }\n";
    NO_QUESTION = "SB0513", "nothing is asked",
        "A stage with an agent has a `prompt_template`, a `prompt_file` or an `input`.",
        "- { name: Ask, agent: gpt-5 }\n";
    UNKNOWN_SIBLING = "SB0514", "no such daemon beside this one",
        "`./id` names a daemon of the same repository, and at this commit there is none. The stage fails until there is.",
        "uses: ./sumarize\n";
    CALL_INPUTS = "SB0515", "inputs that the called daemon does not take",
        "The called daemon has no input of this name, or one that it needs is not given. The stage fails when it runs.",
        "uses: ./summarize\ninputs: { dept: quick }\n";

    UNKNOWN_VARIABLE = "SB0516", "unknown variable",
        "`${state.NAME}` and `set` name a variable that the daemon declares in `state`, with what it is at first.",
        "state: { counter: 0 }\nstages:\n  - { name: Count, type: script, script: ./count, output: next, set: { countr: \"${next}\" } }\n";
    STATE_BOUNDS = "SB0517", "too many variables, or too large",
        "A daemon has at most 64 variables, and each holds at most 256 KiB, 1 MiB together. What is larger belongs into a file of the repository.",
        "";
    NO_SESSION = "SB0518", "conversation that is not kept",
        "A model's conversation can be kept under a `session`. A coding agent keeps its own in its home, which is forgotten with its sandbox, so that the key has no effect.",
        "- { name: Fix, agent: codex, input: Fix it., session: fixes }\n";

    // Files.
    NO_SUCH_FILE = "SB0601", "no such file",
        "The file is not in the daemon's directory at this commit.",
        "prompt_file: prompts/analyse.md\n";
    PATH_LEAVES = "SB0602", "path leaves the directory",
        "Paths are relative, with `/`, and never lead out: no `..`, no `~`, no leading `/`.",
        "prompt_file: ../secret.md\n";

    // Expressions.
    BAD_EXPRESSION = "SB0701", "not an expression",
        "What stands between `${` and `}`, or after `if:` and `when:`, is not an expression of the language. `$${` is a `${` that is only text.",
        "if: \"len(findings > 0\"\n";
    UNKNOWN_VALUE = "SB0702", "unknown name",
        "No input and no output has this name. Unless it is there when the stage runs, the stage fails; `default(x, y)` guards against that.",
        "input: \"${findngs}\"\n";
    OUTPUT_TOO_EARLY = "SB0703", "output used before it exists",
        "The output is made by a stage that this one does not wait for. Name that stage in `needs`.",
        "stages:\n  - { name: Use, agent: gpt-5, input: \"${draft}\" }\n  - { name: Make, agent: gpt-5, input: hello, output: draft }\n";
    UNKNOWN_INPUT = "SB0704", "unknown input",
        "`inputs` has no input of this name.",
        "input: \"${inputs.dept}\"\n";

    // Outcomes.
    UNKNOWN_OUTCOME = "SB0801", "unknown outcome",
        "The server can do nothing of this name.",
        "outcomes:\n  - create-pr: { title: Fixes }\n";
    OUTCOME_SHAPE = "SB0802", "not one outcome",
        "An entry of `outcomes` is a map with one key, the kind.",
        "outcomes:\n  - add-comment: { body: hello }\n    noop: {}\n";

    // This version.
    NOT_YET = "SB0901", "not run by this version",
        "The stage is understood and checked, but this version of the server cannot run it yet.",
        "- { name: Publish, type: approval, groups: [maintainers] }\n";

    // The spellbook.
    BAD_SHARE = "SB1001", "not a share",
        "A share is `20%`, or a number from 0 to 1.",
        "forks: { revenue_share: 120% }\n";
    BAD_REQUIREMENT = "SB1002", "not a requirement",
        "`requires` is a list of comparisons with versions: `>=1.2`, `>=1.2, <2`.",
        "requires: newest\n";
    BAD_REPOSITORY = "SB1003", "not a repository",
        "A repository is written as `owner/name`.",
        "redirect: https://example.org/ada/book\n";
    BAD_CONTACT = "SB1004", "not an address",
        "`url` is an https address; `support` is one, or an e-mail address.",
        "publisher: { name: Ada, url: example.org }\n";
    EMPTY_BUNDLE = "SB1005", "bundle without daemons",
        "A bundle names at least two daemons of the repository by their ids, each once.",
        "bundles:\n  - { name: All, daemons: [review], price: free }\n";
    NEWER_SERVER = "SB1006", "needs another version of the server",
        "`requires` does not hold for the server that checks the file. Ask the operator to update it, or widen the requirement.",
        "requires: \">=99\"\n";

    // MCP servers.
    BAD_SERVER_NAME = "SB1101", "not a name for an MCP server",
        "The names of a server's tools begin with its own, which has at most 32 letters, digits, hyphens and single underscores.",
        "mcp_servers: { \"my tickets\": { url: https://mcp.example.org/mcp } }\n";
    SERVER_SHAPE = "SB1102", "neither a program nor an address",
        "An MCP server is a program (`command`, with `args`, `env`, `runtime`) or an address (`url`, with `headers`).",
        "mcp_servers: { tickets: { timeout: 30s } }\n";
    UNKNOWN_SERVER = "SB1103", "unknown MCP server or tool",
        "`tools` names `SERVER/TOOL` or `SERVER/*` of a server that `mcp_servers` declares, and a tool that its `allowed` selects.",
        "- { name: Ask, agent: gpt-5, input: hello, tools: [tikets/search] }\n";
    CLOSED_SERVER = "SB1104", "MCP server that cannot be reached",
        "The server calls an MCP server as it calls any other host of a daemon: `permissions.network.allowed` names it.",
        "mcp_servers: { tickets: { url: https://mcp.example.org/mcp } }\n";
    UNUSED_SERVER = "SB1105", "MCP server not used",
        "No stage offers the tools of this server to a model. An `agent` stage with a model offers all tools where it names none; a `prompt` stage offers those that it names; coding agents bring their own.",
        "mcp_servers: { tickets: { command: ./tickets } }\n";

    // Tests.
    TEST_INPUTS = "SB1201", "inputs that the daemon does not take",
        "A test gives a run inputs by the names that the daemon has, and all that it needs.",
        "# tests/crash.yaml\ninputs: { titel: It crashes }\n";
    TEST_EVENT = "SB1202", "event that starts no run",
        "The daemon has no trigger of this kind. Expect `status: not_started`, or give inputs in place of the event.",
        "# tests/push.yaml\nevent: { kind: push }\n";
    TEST_OUTPUT = "SB1203", "nothing is called so",
        "`outputs` names outputs and stages of the daemon.",
        "# tests/crash.yaml\nexpect: { outputs: { kidn: bug } }\n";
    TEST_SECRET = "SB1204", "secret not usable",
        "A test makes up values for secrets that the daemon's `permissions.secrets` names. They have at least eight characters, so that they can be found wherever they turn up.",
        "# tests/scan.yaml\nsecrets: { SNYK_TOKEN: x }\n";
    TEST_EXPECTATION = "SB1205", "nothing is expected",
        "A map of conditions has at least one, and `absent: true` stands alone. To compare with a map, write it under `equals`.",
        "# tests/crash.yaml\nexpect: { outputs: { kind: {} } }\n";
    TEST_PATTERN = "SB1206", "not a regular expression",
        "`matches` is a regular expression without look-around and back-references.",
        "# tests/crash.yaml\nexpect: { outputs: { kind: { matches: \"(bug\" } } }\n";
    TEST_COST = "SB1207", "not a bound for money",
        "`cost` is a comparison with dollars: `<= $0.01`, `< $1`, `= $0`.",
        "# tests/crash.yaml\nexpect: { cost: cheap }\n";
    TEST_FIXTURE = "SB1208", "no such fixture",
        "`workspace` is a directory and `same_as` a text file, both beside the test in the daemon's `tests/`.",
        "# tests/crash.yaml\nworkspace: files\n";
    TEST_STATE = "SB1209", "nothing that the daemon remembers",
        "`state` of a test names variables that the daemon's `state` declares. `sessions` holds conversations, each under a key that a stage's `session` can have.",
        "# tests/second.yaml\nstate: { countr: 1 }\n";
}

/// The catalogue as Markdown: `docs/diagnostics.md`.
pub fn to_markdown() -> String {
    let mut text = "# Diagnostics\n\nEverything that `spellbook validate`, a push, a check run or the editor can say about \
                    `daemon.yaml`, `spellbook.yaml` and the tests of daemons.\n\n<!-- Made from server/manifest/src/codes.rs; \
                    `SPELLBOOK_BLESS=1 cargo test -p manifest` writes it anew. -->\n"
        .to_owned();
    for code in ALL {
        text.push_str(&format!("\n## {}: {}\n\n{}\n", code.id, code.title, code.explanation));
        if !code.example.is_empty() {
            text.push_str(&format!("\n```yaml\n{}```\n", code.example));
        }
    }
    text
}
