//! Signed tokens: JWS in its compact form with RS256 (RFC 7515, 7518), and nothing else of it.
//!
//! Written here rather than taken from a crate: one algorithm is accepted, so there is no choice that a token
//! could make, and `ring`, which the program has for TLS, checks the signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value as Json;

use super::refused;
use crate::problem::Problem;

/// The longest token, bytes.
const LONGEST: usize = 16 << 10;

/// A token whose signature is still to be checked.
#[derive(Debug)]
pub(super) struct Jwt {
    /// The name of the key that is said to have signed it.
    pub(super) key: String,
    /// What was signed.
    pub(super) signed: String,
    /// By whom.
    pub(super) signature: Vec<u8>,
    /// What it says; nothing before the signature is checked.
    pub(super) payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Json>,
}

impl Jwt {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let malformed = || refused("identity_malformed", "the identity is no signed token (JWT)");
        if text.len() > LONGEST {
            return Err(malformed());
        }
        let (signed, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed())?;
        // `none`, and HS256 with the public key as its secret, end here.
        if header.alg != "RS256" || header.crit.is_some() {
            return Err(refused("identity_algorithm", "the identity must be signed with RS256"));
        }
        Ok(Self {
            key: header.kid.ok_or_else(malformed)?,
            signed: signed.to_owned(),
            signature: decode(signature)?,
            payload: decode(payload)?,
        })
    }
}
