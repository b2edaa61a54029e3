//! Fetching and pushing over https, with a server whose certificate a private authority signed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ports::source::{Moved, PushSpec, Source, SourceError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use crate::fetch::{follow, theirs};
use crate::fixture::{Fixture, REPOSITORY, branch, remote};
use crate::serve::Door;

/// An authority that no system knows.
struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("authority.pem"), certificate.pem()).unwrap();
        Self { directory, issuer: Issuer::new(parameters, key) }
    }

    /// Its own certificate.
    fn pem(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// A server of this name, with a certificate of the authority, on a free port of loopback.
    async fn open(&self, door: Door, name: &str) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let encrypted = Encrypted { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
        tokio::spawn(async move { axum::serve(encrypted, door.router()).await.unwrap() });
        address
    }
}

/// A listener behind TLS.
struct Encrypted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.listener.accept().await.unwrap();
            // A client that does not trust the certificate goes away here.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn url(address: SocketAddr) -> String {
    format!("https://localhost:{}/{REPOSITORY}.git", address.port())
}

#[tokio::test]
async fn an_authority_that_the_operator_trusts_is_enough() {
    let authority = Authority::new();
    let fixture = Fixture::with(|config| config.certificates = Some(authority.pem())).await;
    let (door, _theirs) = theirs(&fixture);
    let address = authority.open(door, "localhost").await;
    let remote = remote(&url(address));
    follow(&fixture, &remote).await;
    let (branch, head) = (branch("pushed"), fixture.head());
    let spec = PushSpec { repository: REPOSITORY, remote: &remote, branch: &branch, from: None, to: &head };
    assert_eq!(fixture.git.push(spec).await.unwrap(), Moved::Moved);
    assert_eq!(fixture.run(["rev-parse", "pushed"]), head.as_str());
}

/// Expects that nothing is fetched, and why.
async fn check_refused(certificates: Option<PathBuf>, authority: &Authority, name: &str, why: &str) {
    let fixture = Fixture::with(|config| config.certificates = certificates).await;
    fixture.commit("first");
    let (door, _theirs) = theirs(&fixture);
    let address = authority.open(door, name).await;
    let fetched = fixture.git.fetch(REPOSITORY, &remote(&url(address))).await;
    let error: SourceError = fetched.expect_err("the certificate was taken");
    let told = format!("{error}: {error:?}");
    assert!(told.contains(why), "{told}");
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
    fixture.fetch().await;
    let (branch, head, remote) = (branch("pushed"), fixture.head(), remote(&url(address)));
    let spec = PushSpec { repository: REPOSITORY, remote: &remote, branch: &branch, from: None, to: &head };
    let told = format!("{:?}", fixture.git.push(spec).await.expect_err("the certificate was taken"));
    assert!(told.contains(why), "{told}");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    check_refused(None, &Authority::new(), "localhost", "certificate").await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    check_refused(Some(Authority::new().pem()), &Authority::new(), "localhost", "certificate").await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    check_refused(Some(authority.pem()), &authority, "elsewhere.example", "certificate").await;
}
