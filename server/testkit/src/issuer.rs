use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair, PublicKeyComponents};
use ring::signature::RSA_PKCS1_SHA256;
use serde_json::{Value as Json, json};

/// The name of an issuer's key.
const KEY: &str = "key-1";

/// An issuer of identities, as GitHub is one for the jobs of Actions: what it publishes, and what it signs.
pub struct Issuer {
    url: String,
    keys: KeyPair,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Issuer {
    /// An issuer at this address.
    pub fn new(url: impl Into<String>) -> Self {
        Self::with(url.into(), include_bytes!("issuer/own.der"))
    }

    /// One that claims the address of another and has a key of its own, under the same name.
    pub fn impostor(url: impl Into<String>) -> Self {
        Self::with(url.into(), include_bytes!("issuer/stranger.der"))
    }

    fn with(url: String, key: &[u8]) -> Self {
        Self { url, keys: KeyPair::from_pkcs8(key).expect("because the file is a key in PKCS #8") }
    }

    /// What it publishes under a path.
    pub fn document(&self, path: &str) -> Option<Json> {
        match path {
            "/.well-known/openid-configuration" => {
                Some(json!({ "issuer": self.url, "jwks_uri": format!("{}/keys", self.url) }))
            }
            "/keys" => Some(json!({ "keys": [self.key(KEY)] })),
            _ => None,
        }
    }

    /// Its public key, under a name.
    pub fn key(&self, name: &str) -> Json {
        let public = PublicKeyComponents::<Vec<u8>>::from(self.keys.public());
        let (n, e) = (URL_SAFE_NO_PAD.encode(public.n), URL_SAFE_NO_PAD.encode(public.e));
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": name, "n": n, "e": e })
    }

    /// What GitHub says of a job on the main branch of `acme/app`, for an audience, from a moment in seconds.
    pub fn claims(&self, audience: &str, now: i64, id: &str) -> Json {
        json!({
            "iss": self.url, "aud": audience, "sub": "repo:acme/app:ref:refs/heads/main", "jti": id,
            "iat": now, "nbf": now - 600, "exp": now + 300,
            "repository": "acme/app", "repository_id": "4711", "repository_owner": "acme",
            "repository_owner_id": "47", "ref": "refs/heads/main", "ref_type": "branch", "sha": "0123",
            "event_name": "push", "actor": "ada", "run_id": "1001", "run_attempt": "1", "run_number": "7",
            "job_workflow_ref": "acme/app/.github/workflows/ci.yml@refs/heads/main",
            "runner_environment": "github-hosted",
        })
    }

    /// An identity that says these claims.
    pub fn sign(&self, claims: &Json) -> String {
        self.sign_as(&json!({ "typ": "JWT", "alg": "RS256", "kid": KEY }), claims)
    }

    /// The same under another header.
    pub fn sign_as(&self, header: &Json, claims: &Json) -> String {
        let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.keys.public().modulus_len()];
        self.keys
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("because the buffer is as long as the key");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
