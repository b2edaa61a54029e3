//! Which jobs the operator trusts, with what: rules of the configuration.

use domain::access::Role;
use domain::trigger::globs_select;
use serde::Deserialize;

use super::claims::Claims;

/// The issuer of github.com.
const GITHUB: &str = "https://token.actions.githubusercontent.com";
/// The event that runs with the base repository's rights on what a stranger proposes.
const STRANGERS: &str = "pull_request_target";

/// Signing in of GitHub Actions jobs, as it stands in the server's TOML file under `[actions]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Actions {
    /// Who vouches for jobs: `https://token.actions.githubusercontent.com` unless it is said; another one for
    /// GitHub Enterprise.
    pub issuer: Option<String>,
    /// For whom an identity must be meant: the server's public address unless it is said.
    pub audience: Option<String>,
    /// Whom to trust with what; the first that fits a job decides. Without one that fits, nobody gets in.
    pub trust: Vec<Trust>,
}

/// Which jobs are trusted with what. Every condition must hold; text is a glob in which `*` stops at slashes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// `owner/name`, or `owner/*`.
    pub repository: String,
    /// The repository's number at GitHub, which no other one ever has.
    pub repository_id: Option<u64>,
    /// `refs/heads/main`; any when it is not said.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The workflow's file with its ref: `acme/app/.github/workflows/*@refs/heads/main`.
    pub workflow: Option<String>,
    /// The deployment environment.
    pub environment: Option<String>,
    /// The events; without them, all but `pull_request_target`, which must be named.
    #[serde(default)]
    pub events: Vec<String>,
    /// What such a job may do.
    pub role: TrustedRole,
    /// The daemons that it may start: `owner/name/id`, or globs such as `acme/book/*`.
    #[serde(default)]
    pub daemons: Vec<String>,
}

/// What a job may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustedRole {
    /// Check daemon files.
    Viewer,
    /// Also start daemons, and follow and cancel what it started.
    Runner,
}

/// A configuration that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ActionsError {
    /// The issuer is no address.
    #[error("`issuer` must be an https address without a slash at the end, not `{0}`")]
    Issuer(String),
    /// A rule would trust everybody.
    #[error("`repository = \"{0}\"`: write `owner/name` or `owner/*`; the owner must be named")]
    Repository(String),
    /// A runner without a daemon.
    #[error("the rule for `{0}` has the role runner and no `daemons`; name those that it may start")]
    NoDaemons(String),
    /// A viewer with daemons.
    #[error("the rule for `{0}` has `daemons` and the role viewer, which starts none")]
    IdleDaemons(String),
}

impl Actions {
    /// Who vouches for jobs.
    pub(super) fn issuer(&self) -> &str {
        self.issuer.as_deref().unwrap_or(GITHUB)
    }

    /// The rule that decides about a job.
    pub(super) fn trusting(&self, claims: &Claims) -> Option<&Trust> {
        self.trust.iter().find(|trust| trust.fits(claims))
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// When a rule would trust everybody, or grants nothing.
    pub fn check(&self) -> Result<(), ActionsError> {
        let issuer = self.issuer();
        if authority(issuer).is_none() || issuer.ends_with('/') {
            return Err(ActionsError::Issuer(issuer.to_owned()));
        }
        for Trust { repository, role, daemons, .. } in &self.trust {
            let (owner, name) = repository.split_once('/').unwrap_or_default();
            let named = !owner.is_empty()
                && owner.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if !named || name.is_empty() || name.contains('/') {
                return Err(ActionsError::Repository(repository.clone()));
            }
            match (role, daemons.is_empty()) {
                (TrustedRole::Runner, true) => return Err(ActionsError::NoDaemons(repository.clone())),
                (TrustedRole::Viewer, false) => return Err(ActionsError::IdleDaemons(repository.clone())),
                (TrustedRole::Runner, false) | (TrustedRole::Viewer, true) => {}
            }
        }
        Ok(())
    }
}

impl Trust {
    /// The role of its tokens.
    pub(super) fn role(&self) -> Role {
        match self.role {
            TrustedRole::Viewer => Role::Viewer,
            TrustedRole::Runner => Role::Runner,
        }
    }

    fn fits(&self, claims: &Claims) -> bool {
        let event = match self.events.as_slice() {
            [] => claims.event_name != STRANGERS,
            events => events.contains(&claims.event_name),
        };
        // GitHub compares names without case.
        let repository = globs(&self.repository.to_lowercase(), &claims.repository.to_lowercase());
        let id = self.repository_id.is_none_or(|id| claims.repository_id == id.to_string());
        let fits = |glob: Option<&String>, claim: Option<&str>| {
            glob.is_none_or(|glob| claim.is_some_and(|claim| globs(glob, claim)))
        };
        event
            && repository
            && id
            && fits(self.reference.as_ref(), Some(&claims.reference))
            && fits(self.workflow.as_ref(), claims.job_workflow_ref.as_deref())
            && fits(self.environment.as_ref(), claims.environment.as_deref())
    }
}

fn globs(glob: &str, text: &str) -> bool {
    globs_select(&[glob.to_owned()], text)
}

/// Host, and port if there is one, of an address over http or https.
pub(super) fn authority(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    (!authority.is_empty() && authority.bytes().all(plain)).then_some(authority)
}
