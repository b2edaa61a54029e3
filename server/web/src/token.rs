//! API tokens: 256 random bits, shown once, kept as a hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

/// What every token begins with, so that people and secret scanners know one when they see it.
pub const PREFIX: &str = "sb_";

/// Draws a token: what its owner is shown, and the hash that is stored.
pub fn mint() -> (SecretString, [u8; 32]) {
    let bits: [u8; 32] = rand::random();
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bits));
    let hash = Sha256::digest(text.as_bytes()).into();
    (text.into(), hash)
}

/// The hash under which a token is stored; `None` for text that cannot be one.
///
/// Finding a token by its hash needs no comparison in constant time: who does not know the token
/// cannot choose its hash.
pub fn hash(text: &str) -> Option<[u8; 32]> {
    let body = text.strip_prefix(PREFIX)?;
    let whole =
        body.len() == 43 && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    whole.then(|| Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn what_is_minted_is_found_again() {
        let (secret, stored) = mint();
        assert_eq!(hash(secret.expose_secret()), Some(stored));
        assert_ne!(mint().1, stored);
    }

    #[test]
    fn what_cannot_be_a_token_is_not_looked_up() {
        let whole = format!("{PREFIX}{}", "a".repeat(43));
        assert!(hash(&whole).is_some());
        for text in
            ["", "sb_", "SB_", &whole[..45], &format!("{whole}a"), &whole.replace("aaa", "a a"), &whole[1..]]
        {
            assert_eq!(hash(text), None, "{text:?}");
        }
    }
}
