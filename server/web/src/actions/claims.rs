//! What an identity says, and whether it says it to us and now.

use std::time::Duration;

use domain::time::Timestamp;
use serde::Deserialize;

use super::refused;
use crate::problem::Problem;

/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(60);
/// An identity that holds longer is none of a job: GitHub's hold for minutes.
const LONGEST: Duration = Duration::from_secs(3600);

/// What GitHub says about a job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Claims {
    pub(super) iss: String,
    aud: Audience,
    exp: u64,
    iat: u64,
    nbf: Option<u64>,
    pub(super) jti: String,
    /// `owner/name`.
    pub(super) repository: String,
    /// It stays when the repository is renamed, and a new repository of the old name has another.
    pub(super) repository_id: String,
    #[serde(rename = "ref")]
    pub(super) reference: String,
    pub(super) event_name: String,
    /// The workflow's file and its ref: `acme/app/.github/workflows/ci.yml@refs/heads/main`.
    pub(super) job_workflow_ref: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) run_id: String,
    run_attempt: String,
}

/// One audience, or several (RFC 7519, 4.1.3).
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Claims {
    pub(super) fn read(payload: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(payload).map_err(|error| {
            refused(
                "identity_incomplete",
                format!("the identity is not that of a GitHub Actions job: {error}"),
            )
        })
    }

    /// The same, if they are for us and hold now.
    pub(super) fn check(self, issuer: &str, audience: &str, now: Timestamp) -> Result<Self, Problem> {
        if self.iss != issuer {
            return Err(refused("identity_issuer", format!("the identity must be given by {issuer}")));
        }
        let to_us = match &self.aud {
            Audience::One(one) => one == audience,
            Audience::Several(several) => several.iter().any(|one| one == audience),
        };
        if !to_us {
            return Err(refused(
                "identity_audience",
                format!("the identity must be for the audience {audience}"),
            ));
        }
        if self.until() <= now {
            return Err(refused("identity_expired", "the identity has expired; ask GitHub for another one"));
        }
        let later = now.after(SKEW);
        if moment(self.nbf.unwrap_or(0)) > later || moment(self.iat) > later {
            return Err(refused("identity_early", "the identity does not hold yet; is the clock right?"));
        }
        if self.until() > later.after(LONGEST) {
            return Err(refused("identity_long", "the identity holds for too long to be that of a job"));
        }
        Ok(self)
    }

    /// Until when it is accepted.
    pub(super) fn until(&self) -> Timestamp {
        moment(self.exp).after(SKEW)
    }

    /// What its token is called, for people.
    pub(super) fn label(&self) -> String {
        let label =
            format!("GitHub Actions run {} attempt {}, {}", self.run_id, self.run_attempt, self.event_name);
        label.chars().filter(|c| !c.is_control()).take(100).collect()
    }
}

/// A moment as JWTs write it, in seconds; one that is too far off is the last there is.
fn moment(seconds: u64) -> Timestamp {
    const END_OF_TIME: u64 = 253_402_300_799;
    Timestamp::EPOCH.after(Duration::from_secs(seconds.min(END_OF_TIME)))
}
