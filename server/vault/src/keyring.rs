//! Keys, and what they seal.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::memo::Sealed;
use ports::vault::{Vault, VaultError};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::zeroize::Zeroize;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// The length of a key, bytes.
const KEY: usize = 32;
/// What every seal is bound to besides: the way in which it is made.
const WAY: &[u8] = b"spellbook seal 1\n";

/// One key or several. The first seals; all of them open, so that a key is changed by writing a new one before it
/// and taking the old one away once nothing is sealed under it.
///
/// A nonce is drawn for each seal: under one key that is safe for some four thousand million of them (NIST SP
/// 800-38D, 8.3).
pub struct Keyring {
    newest: String,
    keys: BTreeMap<String, LessSafeKey>,
    random: SystemRandom,
}

/// Text that holds no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// There is nothing.
    #[error("there is no key; make one with `head -c 32 /dev/urandom | base64`")]
    Empty,
    /// Something is not a key.
    #[error("the {0}. key is not 32 bytes in base64; make one with `head -c 32 /dev/urandom | base64`")]
    NotAKey(usize),
}

impl Keyring {
    /// Keys as text: each 32 bytes in base64, with spaces, commas or line ends between them; the first seals.
    ///
    /// # Errors
    /// When there is no key, or something that is none.
    pub fn parse(text: &SecretString) -> Result<Self, KeyringError> {
        let mut keys = BTreeMap::new();
        let mut newest = None;
        let words = text.expose_secret().split([' ', ',', '\n', '\r', '\t']).filter(|word| !word.is_empty());
        for (nth, word) in words.enumerate() {
            let (name, key) = key(word).ok_or(KeyringError::NotAKey(nth + 1))?;
            newest.get_or_insert_with(|| name.clone());
            keys.insert(name, key);
        }
        let newest = newest.ok_or(KeyringError::Empty)?;
        Ok(Self { newest, keys, random: SystemRandom::new() })
    }

    /// A new key, as text.
    pub(crate) fn draw() -> Option<SecretString> {
        let mut bytes = [0; KEY];
        SystemRandom::new().fill(&mut bytes).ok()?;
        let text = STANDARD.encode(bytes);
        bytes.zeroize();
        Some(text.into())
    }

    /// The name of the key that seals.
    pub fn newest(&self) -> &str {
        &self.newest
    }
}

/// A key and its name, which tells nothing of it: the beginning of a digest.
fn key(word: &str) -> Option<(String, LessSafeKey)> {
    let mut bytes = STANDARD.decode(word).ok()?;
    let mut digest = Sha256::new();
    digest.update(b"spellbook key name\n");
    digest.update(&bytes);
    let name = hex::encode(&digest.finalize()[..6]);
    let key = UnboundKey::new(&AES_256_GCM, &bytes).ok();
    bytes.zeroize();
    Some((name, LessSafeKey::new(key?)))
}

fn aad(bound: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([WAY, bound].concat())
}

#[async_trait]
impl Vault for Keyring {
    async fn seal(&self, bound: &[u8], plain: &[u8]) -> Result<Sealed, VaultError> {
        let failed = || VaultError::Unavailable("there are no random numbers".to_owned());
        let key = self.keys.get(&self.newest).ok_or_else(|| VaultError::KeyMissing(self.newest.clone()))?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| failed())?;
        let mut bytes = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(plain);
        let sealed = &mut bytes[NONCE_LEN..];
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad(bound), sealed)
            .map_err(|_| VaultError::Unavailable("it is too long to be sealed".to_owned()))?;
        bytes.extend_from_slice(tag.as_ref());
        Ok(Sealed { key: self.newest.clone(), bytes })
    }

    async fn open(&self, bound: &[u8], sealed: &Sealed) -> Result<Vec<u8>, VaultError> {
        let key = self.keys.get(&sealed.key).ok_or_else(|| VaultError::KeyMissing(sealed.key.clone()))?;
        let (nonce, rest) = sealed.bytes.split_first_chunk().ok_or(VaultError::Broken)?;
        let mut bytes = rest.to_vec();
        let plain = key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad(bound), &mut bytes);
        let length = plain.map_err(|_| VaultError::Broken)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("newest", &self.newest).field("keys", &self.keys.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::conformance::vault::Fresh;

    const OLD: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const NEW: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn keyring(text: &str) -> Result<Keyring, KeyringError> {
        Keyring::parse(&text.to_owned().into())
    }

    async fn fresh() -> Fresh {
        Fresh::new(keyring(OLD).unwrap())
    }

    testkit::vault_conformance!(fresh);

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        for (text, error) in [
            ("", KeyringError::Empty),
            (" \n", KeyringError::Empty),
            ("secret", KeyringError::NotAKey(1)),
            (&format!("{OLD}\nAAAA"), KeyringError::NotAKey(2)),
        ] {
            assert_eq!(keyring(text).map(|_| ()), Err(error), "{text:?}");
        }
        let shown = format!("{:?}", keyring(NEW).unwrap());
        assert!(!shown.contains(&NEW[..8]) && shown.contains("newest"), "{shown}");
    }

    #[tokio::test]
    async fn a_key_is_changed_without_losing_what_it_sealed() {
        let sealed = keyring(OLD).unwrap().seal(b"here", b"words").await.unwrap();
        let both = keyring(&format!("{NEW},{OLD}")).unwrap();
        assert_eq!(both.open(b"here", &sealed).await.unwrap(), b"words");
        let anew = both.seal(b"here", b"words").await.unwrap();
        assert_ne!(anew.key, sealed.key);
        let new = keyring(NEW).unwrap();
        assert_eq!(new.open(b"here", &anew).await.unwrap(), b"words");
        assert_eq!(new.open(b"here", &sealed).await, Err(VaultError::KeyMissing(sealed.key.clone())));
        let renamed = Sealed { key: anew.key, ..sealed };
        assert_eq!(new.open(b"here", &renamed).await, Err(VaultError::Broken));
    }
}
