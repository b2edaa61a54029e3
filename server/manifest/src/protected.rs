//! Files that decide what is run and by whom: whoever changes one gives orders to a machine later. A daemon may
//! offer such a change only where its outcome says `protected_files: allowed`.

use globset::{GlobBuilder, GlobMatcher};

use crate::discover::{Layout, MANIFESTS, SPELLBOOKS};

const AGENTS: &str = "a setting of coding agents";

/// Kinds of protected files, each with its globs in lower case: a checkout on another machine may not tell
/// `claude.md` from `CLAUDE.md`. Daemons are where the layout of their repository says, besides.
pub const PROTECTED: &[(&str, &[&str])] = &[
    ("a file of daemons", &[".spellbook/**"]),
    (
        "a pipeline of a forge",
        &[
            ".github/workflows/**",
            ".github/actions/**",
            "**/action.{yml,yaml}",
            ".gitlab-ci.yml",
            ".gitlab/ci/**",
            ".gitea/workflows/**",
            ".forgejo/workflows/**",
            ".circleci/**",
            ".buildkite/**",
            ".woodpecker/**",
            ".woodpecker.{yml,yaml}",
            ".drone.{yml,yaml}",
            ".travis.yml",
            ".cirrus.{yml,yaml,star}",
            ".builds/**",
            ".build.yml",
            "azure-pipelines.{yml,yaml}",
            "bitbucket-pipelines.yml",
            "**/jenkinsfile",
        ],
    ),
    (
        "an order to a forge",
        &[
            "{,.github/,.gitlab/,docs/,.gitea/,.forgejo/}codeowners",
            ".github/{dependabot,settings,mergify}.{yml,yaml}",
            "{,.github/}.mergify.yml",
            "{,.github/,.gitlab/}renovate.{json,json5}",
        ],
    ),
    (
        AGENTS,
        &[
            "**/{.claude,.codex,.gemini,.cursor,.continue,.windsurf,.aider,.agents,.opencode,.goose,.roo}/**",
            "**/{claude,claude.local,agents,agents.override,gemini}.md",
            "**/{.mcp.json,.cursorrules,.windsurfrules,.clinerules,.aider*,opencode.{json,jsonc},.goosehints,.gooseignore}",
            "**/.clinerules/**",
            ".github/{copilot-instructions.md,instructions/**,prompts/**,agents/**,chatmodes/**}",
            ".vscode/{mcp,settings,tasks,launch}.json",
        ],
    ),
    (
        "an order to git",
        &["**/{.gitattributes,.gitmodules,.lfsconfig}", "{.husky,.githooks}/**", ".pre-commit-config.yaml"],
    ),
    (
        "an order to the shell or a development container",
        &["**/{.envrc,.devcontainer.json}", ".devcontainer/**"],
    ),
];

/// The settings of coding agents, wherever they lie: what an agent takes for its orders.
#[derive(Debug)]
pub struct AgentSettings(Vec<GlobMatcher>);

impl AgentSettings {
    /// As [`PROTECTED`] has them.
    pub fn new() -> Self {
        Self(matchers().filter(|(what, _)| *what == AGENTS).map(|(_, glob)| glob).collect())
    }

    /// Whether a path is one. A link in the place of a directory of settings is, too.
    pub fn has(&self, path: &str) -> bool {
        let lower = path.to_lowercase();
        let below = format!("{lower}/x");
        self.0.iter().any(|glob| glob.is_match(&lower) || glob.is_match(&below))
    }
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self::new()
    }
}

fn matchers() -> impl Iterator<Item = (&'static str, GlobMatcher)> {
    let globs = PROTECTED.iter().flat_map(|(what, globs)| globs.iter().map(|glob| (*what, *glob)));
    globs.filter_map(|(what, glob)| {
        let glob = GlobBuilder::new(glob).literal_separator(true).empty_alternates(true).build().ok()?;
        Some((what, glob.compile_matcher()))
    })
}

/// The protected files of one repository.
#[derive(Debug)]
pub struct Protected<'a> {
    layout: &'a Layout,
    globs: Vec<(&'static str, GlobMatcher)>,
}

impl<'a> Protected<'a> {
    /// The protected files of a repository that is laid out so.
    pub fn of(layout: &'a Layout) -> Self {
        Self { layout, globs: matchers().collect() }
    }

    /// What a protected file is; nothing for any other.
    pub fn kind(&self, path: &str) -> Option<&'static str> {
        let lower = path.to_lowercase();
        let name = lower.rsplit('/').next().unwrap_or(&lower);
        // A daemon in the root owns the whole repository; of that only its manifest decides what is run.
        let of_daemon = |path: &str| self.layout.directories_of(path).any(|directory| !directory.is_empty());
        if MANIFESTS.contains(&name)
            || SPELLBOOKS.contains(&lower.as_str())
            || of_daemon(path)
            || of_daemon(&lower)
        {
            return Some("a file of daemons");
        }
        self.globs.iter().find(|(_, glob)| glob.is_match(&lower)).map(|(what, _)| *what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Spellbook;

    fn check(path: &str, expect: Option<&str>) {
        let daemons = vec!["tools/*/daemon".to_owned()];
        let layout = Layout::new("book", &Spellbook { daemons, ..Spellbook::default() });
        assert_eq!(Protected::of(&layout).kind(path), expect, "{path}");
    }

    #[test]
    fn every_glob_is_one() {
        let globs: usize = PROTECTED.iter().map(|(_, globs)| globs.len()).sum();
        let layout = Layout::new("book", &Spellbook::default());
        assert_eq!(Protected::of(&layout).globs.len(), globs);
        for (_, globs) in PROTECTED {
            assert!(globs.iter().all(|glob| glob.to_lowercase() == **glob), "{globs:?}");
        }
    }

    #[test]
    fn what_decides_what_is_run_is_protected() {
        let daemons = Some("a file of daemons");
        for path in [
            "daemons/review/prompts/a.md",
            ".spellbook/x",
            "spellbook.yaml",
            "deep/in/daemon.yml",
            "Daemon.yaml",
            "Daemons/x/run.sh",
            "tools/a/daemon/run.sh",
        ] {
            check(path, daemons);
        }
        check(".github/workflows/ci.yml", Some("a pipeline of a forge"));
        check(".GitHub/Workflows/ci.yml", Some("a pipeline of a forge"));
        check(".gitlab-ci.yml", Some("a pipeline of a forge"));
        check("sub/Jenkinsfile", Some("a pipeline of a forge"));
        check("CODEOWNERS", Some("an order to a forge"));
        check(".github/CODEOWNERS", Some("an order to a forge"));
        for path in [
            "CLAUDE.md",
            "docs/AGENTS.md",
            ".claude/settings.json",
            "a/.mcp.json",
            ".gemini/x",
            ".github/copilot-instructions.md",
        ] {
            check(path, Some("a setting of coding agents"));
        }
        check(".gitattributes", Some("an order to git"));
        check("sub/.gitmodules", Some("an order to git"));
        check(".devcontainer/devcontainer.json", Some("an order to the shell or a development container"));
    }

    #[test]
    fn agents_take_their_orders_from_settings() {
        let settings = AgentSettings::new();
        for path in [
            "CLAUDE.md",
            "deep/in/Agents.md",
            "GEMINI.md",
            ".claude",
            ".claude/hooks/run.sh",
            "sub/.codex/config.toml",
            ".gemini/settings.json",
            ".opencode/agent/x.md",
            "opencode.json",
            ".mcp.json",
            ".cursor/rules/x.mdc",
            ".aider.conf.yml",
            ".aiderignore",
            ".goosehints",
            ".github/copilot-instructions.md",
        ] {
            assert!(settings.has(path), "{path}");
        }
        for path in ["README.md", "src/claude.rs", ".github/workflows/ci.yml", "claude/x", "docs/agents.txt"]
        {
            assert!(!settings.has(path), "{path}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for path in [
            "README.md",
            "src/main.rs",
            "docs/daemons.md",
            ".github/ISSUE_TEMPLATE.md",
            "tools/a/run.sh",
            ".gitignore",
            "claude.md.txt",
        ] {
            check(path, None);
        }
    }
}
