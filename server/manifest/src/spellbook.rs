//! A repository's own file, as it was understood.

use domain::money::Price;
use domain::name::{Branch, DaemonId, RepositoryPath};
use domain::repository::BranchRole;
use domain::trigger::globs_select;

/// What holds for a repository with daemons as a whole. The default is that of a repository without the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Spellbook {
    /// Who publishes it.
    pub publisher: Option<Publisher>,
    /// The licence of daemons that name none.
    pub license: Option<String>,
    /// The price of daemons that name none.
    pub price: Price,
    /// Whether the market lists its daemons.
    pub publish: bool,
    /// Daemons that are sold together.
    pub bundles: Vec<Bundle>,
    /// Globs of further directories that hold a daemon each.
    pub daemons: Vec<String>,
    /// What each branch is to the server.
    pub branches: Branches,
    /// What others may do with the daemons.
    pub forks: Forks,
    /// Whether an issue says how its daemons fare.
    pub dashboard: bool,
    /// Where the repository has moved to.
    pub redirect: Option<RepositoryPath>,
    /// Which versions of the server it needs; empty for any.
    pub requires: Requirement,
}

impl Default for Spellbook {
    fn default() -> Self {
        Self {
            publisher: None,
            license: None,
            price: Price::Free,
            publish: true,
            bundles: Vec::new(),
            daemons: Vec::new(),
            branches: Branches::default(),
            forks: Forks::default(),
            dashboard: false,
            redirect: None,
            requires: Requirement::default(),
        }
    }
}

impl Spellbook {
    /// What a branch is to the server: `ignore` is asked first, then `deploy`, then `forks`. Without `deploy`
    /// the default branch is deployed; a branch that none of the three selects is ignored.
    pub fn role(&self, branch: &Branch, default_branch: &Branch) -> BranchRole {
        let Branches { deploy, forks, ignore } = &self.branches;
        let name = branch.as_str();
        let deployed = if deploy.is_empty() { branch == default_branch } else { globs_select(deploy, name) };
        if globs_select(ignore, name) {
            BranchRole::Ignored
        } else if deployed {
            BranchRole::Deploy
        } else if forks.iter().any(|glob| glob == "*") || globs_select(forks, name) {
            BranchRole::Fork
        } else {
            BranchRole::Ignored
        }
    }
}

/// Who publishes a spellbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// The name that the market shows.
    pub name: String,
    /// Where to read more.
    pub url: Option<String>,
    /// Where to ask for help: an https address or an e-mail address.
    pub support: Option<String>,
}

/// Daemons that are sold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The title.
    pub name: String,
    /// Which.
    pub daemons: Vec<DaemonId>,
    /// What they cost together.
    pub price: Price,
}

/// Globs of branches. `*` in `forks` means every branch, also one with a slash in its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branches {
    /// Whose daemons answer to triggers; empty for the default branch.
    pub deploy: Vec<String>,
    /// Which are forks.
    pub forks: Vec<String>,
    /// Which are not looked at.
    pub ignore: Vec<String>,
}

impl Default for Branches {
    fn default() -> Self {
        Self { deploy: Vec::new(), forks: vec!["*".to_owned()], ignore: Vec::new() }
    }
}

/// What others may do with the daemons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forks {
    /// Whether others may fork; `None` leaves it to the licence.
    pub allowed: Option<bool>,
    /// The share of a paid fork's revenue that goes to this repository, in hundredths of a percent.
    pub revenue_share: u16,
}

/// Comparisons with a version, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirement(Vec<(Comparison, [u32; 3])>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Requirement {
    /// Reads `>=1.2, <2`; `None` when that is not what stands there. A version without an operator means
    /// exactly that one; missing parts are zero.
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(comparison).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Whether a version satisfies it. What follows the three numbers of a version is not looked at.
    pub fn admits(&self, version: &str) -> bool {
        let numbers = version.split(['-', '+']).next().and_then(numbers);
        numbers.is_some_and(|version| {
            self.0.iter().all(|(comparison, wanted)| match comparison {
                Comparison::Less => version < *wanted,
                Comparison::LessOrEqual => version <= *wanted,
                Comparison::Equal => version == *wanted,
                Comparison::GreaterOrEqual => version >= *wanted,
                Comparison::Greater => version > *wanted,
            })
        })
    }
}

fn comparison(text: &str) -> Option<(Comparison, [u32; 3])> {
    let text = text.trim();
    let operators = [
        (">=", Comparison::GreaterOrEqual),
        ("<=", Comparison::LessOrEqual),
        (">", Comparison::Greater),
        ("<", Comparison::Less),
        ("=", Comparison::Equal),
        ("", Comparison::Equal),
    ];
    let (rest, comparison) =
        operators.into_iter().find_map(|(sign, comparison)| Some((text.strip_prefix(sign)?, comparison)))?;
    Some((comparison, numbers(rest.trim())?))
}

fn numbers(text: &str) -> Option<[u32; 3]> {
    let parts = text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
    match parts.as_slice() {
        [major] => Some([*major, 0, 0]),
        [major, minor] => Some([*major, *minor, 0]),
        [major, minor, patch] => Some([*major, *minor, *patch]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_role(spellbook: &Spellbook, branch: &str, expect: BranchRole) {
        let name = |text: &str| text.parse::<Branch>().expect("a branch");
        assert_eq!(spellbook.role(&name(branch), &name("main")), expect, "{branch}");
    }

    #[test]
    fn branches_have_roles() {
        let usual = Spellbook::default();
        check_role(&usual, "main", BranchRole::Deploy);
        check_role(&usual, "ada/try", BranchRole::Fork);
        let strict = Spellbook {
            branches: Branches {
                deploy: vec!["release/*".to_owned()],
                forks: vec!["try/**".to_owned()],
                ignore: vec!["release/old".to_owned()],
            },
            ..Spellbook::default()
        };
        check_role(&strict, "release/1", BranchRole::Deploy);
        check_role(&strict, "release/old", BranchRole::Ignored);
        check_role(&strict, "try/a/b", BranchRole::Fork);
        check_role(&strict, "main", BranchRole::Ignored);
    }

    #[test]
    fn requirements_compare_numbers() {
        for (requirement, version, holds) in [
            (">=1.2", "1.10.0", true),
            (">=1.2", "1.1.9", false),
            (">=1.2, <2", "2.0.0", false),
            ("1", "1.0.0-dev", true),
            ("<=1.2.3", "1.2.3", true),
            (">1", "1.0.0", false),
        ] {
            let parsed = Requirement::parse(requirement).expect("a requirement");
            assert_eq!(parsed.admits(version), holds, "{requirement} {version}");
        }
        for text in ["", ">=", "newest", "1.2.3.4", ">=1.x", ">=1,,<2", "-1"] {
            assert_eq!(Requirement::parse(text), None, "{text:?} was accepted");
        }
    }
}
