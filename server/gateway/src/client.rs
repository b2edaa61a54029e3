//! What all clients that this crate builds have in common: TLS, and their name.

/// Some servers refuse a client without a name.
pub(crate) const USER_AGENT: &str = concat!("spellbook/", env!("CARGO_PKG_VERSION"));

/// Makes `ring` the process's implementation, unless another was chosen before.
pub(crate) fn install_tls() {
    // An error says only that one was there already, and one is all that is needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
