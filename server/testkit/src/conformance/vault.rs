//! What every [`Vault`] must do.

use std::sync::Arc;

use domain::memo::Sealed;
use ports::vault::{Vault, VaultError};

/// A vault.
#[derive(Debug)]
pub struct Fresh {
    /// The vault.
    pub vault: Arc<dyn Vault>,
}

impl Fresh {
    /// A vault that needs nothing else.
    pub fn new(vault: impl Vault + 'static) -> Self {
        Self { vault: Arc::new(vault) }
    }
}

/// Makes one test of each behaviour; `$fresh` is an `async fn` that gives a [`Fresh`].
#[macro_export]
macro_rules! vault_conformance {
    ($fresh:ident) => {
        $crate::vault_conformance! { $fresh:
            what_is_sealed_is_opened,
            what_is_sealed_is_not_seen,
            what_belongs_elsewhere_stays_sealed,
            what_was_changed_stays_sealed,
            what_another_key_sealed_stays_sealed,
        }
    };
    ($fresh:ident: $($name:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let fresh = $fresh().await;
            $crate::conformance::vault::$name(&*fresh.vault).await;
        }
    )+};
}

const SEALS: &str = "the vault seals";

/// What is sealed is opened as it was, be it empty or long.
pub async fn what_is_sealed_is_opened(vault: &dyn Vault) {
    for plain in [Vec::new(), b"words".to_vec(), vec![0; 1 << 20]] {
        let sealed = vault.seal(b"here", &plain).await.expect(SEALS);
        assert!(vault.open(b"here", &sealed).await.expect("it opens") == plain, "{} bytes", plain.len());
    }
}

/// Neither the bytes nor whether two are the same can be told from what is sealed.
pub async fn what_is_sealed_is_not_seen(vault: &dyn Vault) {
    let plain = b"these words are nobody's business";
    let [one, two] = [vault.seal(b"here", plain).await, vault.seal(b"here", plain).await];
    let (one, two) = (one.expect(SEALS), two.expect(SEALS));
    assert_ne!(one.bytes, two.bytes);
    for sealed in [&one, &two] {
        assert!(!sealed.bytes.windows(5).any(|part| plain.windows(5).any(|known| part == known)));
    }
}

/// What was sealed for one place opens at no other.
pub async fn what_belongs_elsewhere_stays_sealed(vault: &dyn Vault) {
    let sealed = vault.seal(b"here", b"words").await.expect(SEALS);
    for bound in [&b"there"[..], b"", b"her", b"here "] {
        assert_eq!(vault.open(bound, &sealed).await, Err(VaultError::Broken), "{bound:?}");
    }
}

/// Whatever is changed, cut off or added: it is noticed.
pub async fn what_was_changed_stays_sealed(vault: &dyn Vault) {
    let sealed = vault.seal(b"here", b"words").await.expect(SEALS);
    let mut broken = vec![Vec::new(), sealed.bytes[..sealed.bytes.len() - 1].to_vec()];
    broken.push([&sealed.bytes[..], b"0"].concat());
    broken.extend((0..sealed.bytes.len()).map(|at| {
        let mut bytes = sealed.bytes.clone();
        bytes[at] ^= 1;
        bytes
    }));
    for bytes in broken {
        let changed = Sealed { bytes, ..sealed.clone() };
        assert_eq!(vault.open(b"here", &changed).await, Err(VaultError::Broken), "{:?}", changed.bytes);
    }
}

/// A key that the vault does not have is named.
pub async fn what_another_key_sealed_stays_sealed(vault: &dyn Vault) {
    let sealed = vault.seal(b"here", b"words").await.expect(SEALS);
    let other = Sealed { key: "lost".to_owned(), ..sealed };
    assert_eq!(vault.open(b"here", &other).await, Err(VaultError::KeyMissing("lost".to_owned())));
}
