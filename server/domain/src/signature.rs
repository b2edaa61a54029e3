//! Signatures of webhooks: HMAC-SHA256 (RFC 2104) over the bytes as they came, written as GitHub writes
//! them, <https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries>.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

/// A signature that somebody claims. What it takes to look at it does not depend on how wrong it is.
#[derive(Debug, Clone, Copy)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Reads `sha256=` and 64 lower-case hexadecimal digits; whatever is written otherwise is none.
    pub fn parse(value: &str) -> Option<Self> {
        let digits = value.strip_prefix("sha256=")?;
        if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return None;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The signature of these pieces, one after the other.
    pub fn of(secret: &str, pieces: &[&[u8]]) -> Self {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("because HMAC takes keys of any length");
        for piece in pieces {
            mac.update(piece);
        }
        Self(mac.finalize().into_bytes().into())
    }

    /// Whether it is that of these pieces under one of the secrets; there are two while one takes the
    /// other's place. An empty secret is none, and without a secret nothing holds, after as much work.
    pub fn holds<'s>(&self, secrets: impl IntoIterator<Item = &'s str>, pieces: &[&[u8]]) -> bool {
        let mut holds = Choice::from(0);
        let mut tried = false;
        for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
            holds |= Self::of(secret, pieces).0.ct_eq(&self.0);
            tried = true;
        }
        if !tried {
            let _ = Self::of("none", pieces).0.ct_eq(&self.0);
        }
        holds.into()
    }

    /// As it is written.
    pub fn written(&self) -> String {
        format!("sha256={}", hex::encode(self.0))
    }
}

/// The bytes of one that was written in another way.
impl From<[u8; 32]> for Signature {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GitHub's own example, on the page that is named above.
    const WRITTEN: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";

    #[test]
    fn it_is_written_in_one_way() {
        assert_eq!(Signature::of(SECRET, &[BODY]).written(), WRITTEN);
        assert!(Signature::parse(WRITTEN).is_some());
        let upper = WRITTEN.to_uppercase().replace("SHA256", "sha256");
        let wrong = ["", "sha256=", &WRITTEN[7..], &WRITTEN[..70], &upper, &WRITTEN.replace("256=", "1=")];
        for value in wrong.into_iter().chain([&*format!("{WRITTEN}0"), &format!(" {WRITTEN}")]) {
            assert!(Signature::parse(value).is_none(), "{value:?}");
        }
    }

    #[test]
    fn it_holds_for_its_bytes_and_its_secret_only() {
        let check = |secrets: &[&str], pieces: &[&[u8]], expect: bool| {
            let given = Signature::parse(WRITTEN).expect("it is one");
            assert_eq!(given.holds(secrets.iter().copied(), pieces), expect, "{secrets:?} {pieces:?}");
        };
        check(&[SECRET], &[BODY], true);
        check(&[SECRET], &[b"Hello", b", World!"], true);
        check(&["new", SECRET], &[BODY], true);
        check(&[SECRET, "old"], &[BODY], true);
        check(&["other"], &[BODY], false);
        check(&[SECRET], &[b"Hello, World?"], false);
        check(&[], &[BODY], false);
    }

    #[test]
    fn without_a_secret_nothing_holds() {
        for key in ["", "none"] {
            let given = Signature::of(key, &[BODY]);
            assert!(!given.holds([], &[BODY]), "{key:?}");
            assert!(!given.holds([""], &[BODY]), "{key:?}");
        }
    }
}
