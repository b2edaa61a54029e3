//! What a repository lets daemons do in it, as it was understood.

use domain::effect::{Act, Author, EffectKind};
use domain::name::{DaemonId, RepositoryPath};
use domain::trigger::globs_select;

/// Where a repository says what daemons may do in it.
pub const POLICY: &str = ".spellbook/policy.yaml";

/// What daemons may do in a repository. The default is that of a repository without the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether programs may change or say anything.
    pub bots: bool,
    /// Which daemons: globs of ids and of whole addresses; `None` for all.
    pub allow: Option<Vec<String>>,
    /// Which not.
    pub block: Vec<String>,
    /// How many pull requests of daemons may be open at once.
    pub max_open: Option<u32>,
    /// Labels that each of them gets.
    pub labels: Vec<String>,
    /// Whether daemons may comment.
    pub comments: bool,
    /// Whether daemons may open issues.
    pub issues: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            bots: true,
            allow: None,
            block: Vec::new(),
            max_open: None,
            labels: Vec::new(),
            comments: true,
            issues: true,
        }
    }
}

impl Policy {
    /// Whether it has a say in an effect at all: what nobody else sees, and answers to people who asked, are none of
    /// its business.
    pub const fn concerns(author: &Author, kind: &EffectKind) -> bool {
        let is_seen = !matches!(
            kind,
            EffectKind::CallWebhook { .. } | EffectKind::UploadArtifact { .. } | EffectKind::Noop { .. }
        );
        let is_asked = match author {
            Author::Run(_) => false,
            Author::Server { act } => matches!(act, Act::Receipt | Act::Answer),
        };
        is_seen && !is_asked
    }

    /// The rule by which something is not done, as it stands in the file. How many pull requests are open is not
    /// known here.
    pub fn forbids(&self, author: &Author, home: &RepositoryPath, kind: &EffectKind) -> Option<String> {
        if !self.bots {
            return Some("bots: deny".to_owned());
        }
        if let Author::Run(run) = author {
            let named = |globs: &[String]| {
                globs_select(globs, run.daemon.as_str()) || globs_select(globs, &whole(home, &run.daemon))
            };
            if named(&self.block) {
                return Some(format!("daemons.block: {}", self.block.join(", ")));
            }
            if let Some(allow) = self.allow.as_ref().filter(|allow| !named(allow)) {
                return Some(match allow.is_empty() {
                    true => "daemons.allow: []".to_owned(),
                    false => format!("daemons.allow: {}", allow.join(", ")),
                });
            }
        }
        match kind {
            EffectKind::CreatePullRequest { .. } if self.max_open == Some(0) => {
                Some("pull_requests.max_open: 0".to_owned())
            }
            EffectKind::AddComment { .. } if !self.comments => Some("comments: deny".to_owned()),
            EffectKind::CreateIssue { .. } if !self.issues => Some("issues: deny".to_owned()),
            _ => None,
        }
    }
}

fn whole(home: &RepositoryPath, daemon: &DaemonId) -> String {
    format!("{home}/{daemon}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::effect::{CommentTarget, Provenance};
    use domain::files::File;

    fn author() -> Author {
        Author::Run(Provenance {
            run: "run_0198000000007000800000000000002a".parse().expect("an id"),
            daemon: "review".parse().expect("an id"),
            commit: "a".repeat(40).parse().expect("a commit"),
            digest: "b".repeat(40).parse().expect("a digest"),
        })
    }

    fn comment() -> EffectKind {
        let target = CommentTarget::Thread { number: 7 };
        EffectKind::AddComment { target, body: "Fine.".to_owned(), sticky: false }
    }

    fn check(policy: &str, author: &Author, kind: &EffectKind, expect: Option<&str>) {
        let checked = crate::check_policy(POLICY, &File::Regular(policy.as_bytes().to_vec()));
        let policy = checked.value.unwrap_or_else(|| panic!("{policy}: {:?}", checked.diagnostics));
        let home = "acme/app".parse().expect("a path");
        assert_eq!(policy.forbids(author, &home, kind).as_deref(), expect, "{policy:?}");
    }

    #[test]
    fn a_rule_forbids_what_it_names() {
        let (run, plan) = (author(), Author::Server { act: Act::Plan });
        check("", &run, &comment(), None);
        check("bots: deny", &run, &comment(), Some("bots: deny"));
        check("bots: deny", &plan, &comment(), Some("bots: deny"));
        check("daemons: { allow: [] }", &run, &comment(), Some("daemons.allow: []"));
        check("daemons: { allow: triage }", &run, &comment(), Some("daemons.allow: triage"));
        check("daemons: { allow: triage }", &plan, &comment(), None);
        for allowed in ["review", "rev*", "acme/app/review", "acme/app/*", "**"] {
            check(&format!("daemons: {{ allow: [\"{allowed}\"] }}"), &run, &comment(), None);
        }
        for other in ["eve/app/review", "acme/*", "view", "\"!review\""] {
            check(
                &format!("daemons: {{ allow: [{other}] }}"),
                &run,
                &comment(),
                Some(&format!("daemons.allow: {}", other.trim_matches('"'))),
            );
        }
        check("daemons: { allow: review, block: [\"re*\"] }", &run, &comment(), Some("daemons.block: re*"));
        check("comments: deny\nissues: allow", &run, &comment(), Some("comments: deny"));
        check("issues: deny", &run, &comment(), None);
        check("pull_requests: { max_open: 0 }", &run, &comment(), None);
    }

    #[test]
    fn answers_to_people_and_calls_to_elsewhere_are_not_its_business() {
        let answer = Author::Server { act: Act::Answer };
        assert!(!Policy::concerns(&answer, &comment()));
        assert!(Policy::concerns(&Author::Server { act: Act::Plan }, &comment()));
        assert!(!Policy::concerns(&author(), &EffectKind::Noop { reason: String::new() }));
    }
}
