//! What an app says of itself: a JSON Web Token (RFC 7519) that its private key signs, RS256.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domain::time::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::config::BuildError;

/// GitHub's clock and ours may differ; it takes a token that was made a minute ago.
const EARLIER: i64 = 60;
/// GitHub takes ten minutes at most, by its own clock.
const LONGEST: i64 = 8 * 60;

/// An app's private key.
pub(crate) struct AppKey {
    id: String,
    pair: RsaKeyPair,
}

impl std::fmt::Debug for AppKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl AppKey {
    /// Reads a key as GitHub gives it out.
    pub(crate) fn read(id: &str, pem: &SecretString) -> Result<Self, BuildError> {
        let pem = pem.expose_secret();
        let body = |label: &str| {
            let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
            let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
            STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
        };
        let pair = if let Some(der) = body("RSA PRIVATE KEY") {
            RsaKeyPair::from_der(&der)
        } else if let Some(der) = body("PRIVATE KEY") {
            RsaKeyPair::from_pkcs8(&der)
        } else {
            return Err(BuildError::Key("is not PEM: it begins with `-----BEGIN RSA PRIVATE KEY-----`"));
        };
        let pair = pair.map_err(|_| BuildError::Key("is not an RSA key of 2,048 bits or more"))?;
        Ok(Self { id: id.to_owned(), pair })
    }

    /// A token that says which app this is, good for some minutes.
    pub(crate) fn token(&self, now: Timestamp) -> SecretString {
        let seconds = now.millis() / 1000;
        let header = json!({ "alg": "RS256", "typ": "JWT" });
        let claims = json!({ "iat": seconds - EARLIER, "exp": seconds + LONGEST, "iss": self.id });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature)
            .expect("because the signature has the length of the key's modulus");
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use testkit::emulate::KEY as PKCS8;

    /// `PKCS8`, as `openssl rsa -traditional` writes it.
    const PKCS1: &str = include_str!("../tests/it/keys/pkcs1.pem");

    #[test]
    fn says_which_app_it_is_for_some_minutes() {
        let now = Timestamp::from_millis(1_795_341_600_000);
        for pem in [PKCS1, PKCS8] {
            let key = AppKey::read("Iv1.abc", &pem.into()).expect("a key");
            let token = key.token(now);
            let parts: Vec<&str> = token.expose_secret().split('.').collect();
            let [header, claims, signature] = parts[..] else { panic!("three parts") };
            let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("base64");
            let claims_json: serde_json::Value = serde_json::from_slice(&decode(claims)).expect("JSON");
            assert_eq!(claims_json, json!({ "iat": 1_795_341_540, "exp": 1_795_342_080, "iss": "Iv1.abc" }));
            let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.pair.public().as_ref());
            let said = format!("{header}.{claims}");
            assert!(public.verify(said.as_bytes(), &decode(signature)).is_ok());
            assert!(!format!("{key:?}").contains("pair"), "the key is not shown");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for (text, expect) in [
            ("", "is not PEM"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "is not an RSA key"),
            ("-----BEGIN RSA PRIVATE KEY-----\n!\n-----END RSA PRIVATE KEY-----", "is not PEM"),
        ] {
            let error = AppKey::read("1", &text.into()).expect_err("it is no key");
            assert!(error.to_string().contains(expect), "{text:?}: {error}");
        }
    }
}
