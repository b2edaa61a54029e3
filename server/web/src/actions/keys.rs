//! The keys of the issuer, from where its discovery document says (OpenID Connect Discovery 1.0).
//!
//! They are kept for an hour. A key that is not among them is looked for once more, at most once a minute, so
//! that made-up names of keys do not become calls of the issuer.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use domain::time::Timestamp;
use ports::web::{Web, WebRequest};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::jwt::Jwt;
use super::refused;
use super::trust::authority;
use crate::problem::Problem;

/// How long keys are taken for current.
const FRESH: Duration = Duration::from_secs(3600);
/// The issuer is not asked again before this.
const PAUSE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest document of an issuer, bytes.
const LONGEST: usize = 256 << 10;

/// The issuer's keys, as they were seen last.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    keys: BTreeMap<String, Key>,
    read: Option<Timestamp>,
    asked: Option<Timestamp>,
}

/// A public RSA key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl Key {
    /// Whether the token was signed with this key (RSASSA-PKCS1-v1_5 with SHA-256, 2048 bits or more).
    pub(super) fn signed(&self, jwt: &Jwt) -> bool {
        let key = RsaPublicKeyComponents { n: &self.n, e: &self.e };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, jwt.signed.as_bytes(), &jwt.signature).is_ok()
    }
}

impl Keys {
    /// The key of a name. One caller asks the issuer, the others wait for what it learns.
    pub(super) async fn key(
        &self,
        web: &dyn Web,
        issuer: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Key, Problem> {
        let mut seen = self.0.lock().await;
        let within = |at: Option<Timestamp>, span: Duration| at.is_some_and(|at| now < at.after(span));
        let fresh = within(seen.read, FRESH);
        if let Some(key) = seen.keys.get(name).filter(|_| fresh) {
            return Ok(key.clone());
        }
        if within(seen.asked, PAUSE) {
            return Err(if fresh { unknown() } else { unreachable() });
        }
        seen.asked = Some(now);
        seen.keys = read(web, issuer).await.map_err(|why| {
            tracing::warn!(issuer, "the keys of {issuer} cannot be read: {why}");
            unreachable()
        })?;
        seen.read = Some(now);
        seen.keys.get(name).cloned().ok_or_else(unknown)
    }
}

fn unknown() -> Problem {
    refused("identity_key_unknown", "the issuer has no key of the name that the identity gives")
}

fn unreachable() -> Problem {
    Problem::unavailable("issuer_unreachable", "the keys of the identity's issuer cannot be read just now")
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<PublicKey>,
}

/// A key as RFC 7517 writes it. Those that are not for RS256 signatures are left out.
#[derive(Deserialize)]
struct PublicKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// Reads the issuer's keys. They come from the issuer's own host: a document cannot send us elsewhere.
async fn read(web: &dyn Web, issuer: &str) -> Result<BTreeMap<String, Key>, String> {
    let host = authority(issuer).ok_or("the issuer has no host")?;
    let discovery: Discovery = get(web, &format!("{issuer}/.well-known/openid-configuration"), host).await?;
    if discovery.issuer != issuer {
        return Err(format!("its document is that of {}", discovery.issuer));
    }
    let same_place = discovery.jwks_uri.split_once("://").map(|(scheme, _)| scheme)
        == issuer.split_once("://").map(|(scheme, _)| scheme)
        && authority(&discovery.jwks_uri) == Some(host);
    if !same_place {
        return Err(format!("its keys are said to be at {}", discovery.jwks_uri));
    }
    let set: KeySet = get(web, &discovery.jwks_uri, host).await?;
    Ok(set.keys.into_iter().filter_map(key).collect())
}

fn key(key: PublicKey) -> Option<(String, Key)> {
    let fits = key.kty == "RSA"
        && key.alg.is_none_or(|alg| alg == "RS256")
        && key.purpose.is_none_or(|purpose| purpose == "sig");
    let decode = |part: Option<String>| URL_SAFE_NO_PAD.decode(part?).ok();
    let (name, n, e) = (key.kid?, decode(key.n)?, decode(key.e)?);
    fits.then_some((name, Key { n, e }))
}

async fn get<T: DeserializeOwned>(web: &dyn Web, url: &str, host: &str) -> Result<T, String> {
    let request = WebRequest {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: vec![("accept".to_owned(), "application/json".to_owned())],
        body: Bytes::new(),
        allowed: vec![host.to_owned()],
        timeout: PATIENCE,
        max_bytes: LONGEST,
    };
    let answer = web.send(request).await.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("{url} answered {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|error| format!("{url} makes no sense: {error}"))
}
