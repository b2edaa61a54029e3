//! The one judgement of where daemons may go, for `http` stages and for programs in jails alike.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::allowed::{self, Verdict};
use super::sets::{Finder, Known};
use super::{BuildError, CONNECT_MAX, Config, address};

/// Looks a name up.
pub(crate) type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// Judges hosts.
pub(crate) struct Gate {
    sets: Known,
    allow_private: Vec<(String, u16)>,
    pub(super) lookup: Arc<Lookup>,
}

/// How a host is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By `https`.
    Https,
    /// By plain `http`.
    Http,
    /// By a tunnel, in which anything may pass.
    Tunnel,
}

impl Manner {
    /// The ports that an entry without one means.
    fn usual(self) -> &'static [u16] {
        match self {
            Self::Https => &[443],
            Self::Http => &[80],
            Self::Tunnel => &[443, 80],
        }
    }
}

/// Whether a host's addresses must be the public internet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Public,
    Private,
}

/// Why a host is not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    /// `host_not_allowed`, `address_refused` or `unreachable`.
    pub(crate) code: &'static str,
    /// One line for people: which host, why, and what to do.
    pub(crate) message: String,
}

impl Gate {
    pub(super) fn build(config: &Config, lookup: Arc<Lookup>) -> Result<Self, BuildError> {
        let private =
            |entry: &String| allowed::host_and_port(entry).ok_or_else(|| BuildError::Private(entry.clone()));
        let allow_private = config.allow_private.iter().map(private).collect::<Result<_, _>>()?;
        Ok(Self { sets: Known::build(&config.sets)?, allow_private, lookup })
    }

    /// Has the machine asked for sets that nobody listed.
    pub(super) fn find_by(&mut self, finder: Arc<Finder>) {
        self.sets.find_by(finder);
    }

    /// Has the sets of a list known, as far as they can be; gives what tells programs of them.
    pub(crate) async fn look(&self, list: &[String]) -> BTreeMap<String, String> {
        self.sets.look(list).await
    }

    /// Whether the list lets a daemon to a host (in its plain form) and port; nothing is looked up.
    ///
    /// # Errors
    /// When it does not, or the host is an address that must not be reached.
    pub(crate) fn judge(
        &self,
        list: &[String],
        host: &str,
        port: u16,
        manner: Manner,
    ) -> Result<Reach, Denied> {
        let denied = |code, message| Err(Denied { code, message });
        match allowed::verdict(list, &self.sets.now(), host, port, manner.usual()) {
            Verdict::Named => {}
            Verdict::NotNamed { unknown } => {
                let sets = match unknown.as_slice() {
                    [] => String::new(),
                    sets => format!(
                        "; it names sets of hosts that this server does not have ({}); the operator lists them under `[network.sets]`, and `spellbook doctor` says why they are not found",
                        sets.join(", ")
                    ),
                };
                let entry =
                    if manner.usual().contains(&port) { host.to_owned() } else { format!("{host}:{port}") };
                return denied(
                    "host_not_allowed",
                    format!(
                        "{host}:{port} is not among the hosts that this daemon may reach; add `{entry}` to `permissions.network.allowed`{sets}"
                    ),
                );
            }
        }
        if self.allow_private.iter().any(|(known, at)| known == host && *at == port) {
            return Ok(Reach::Private);
        }
        match literal(host).and_then(address::refused) {
            Some(kind) => denied("address_refused", refusal(host, kind)),
            None => Ok(Reach::Public),
        }
    }

    /// Connects to a host that was judged: its name is looked up once, every address is checked, and
    /// one of exactly these is connected to.
    ///
    /// # Errors
    /// When an address must not be reached, or none answers.
    pub(crate) async fn connect(&self, host: &str, port: u16, reach: Reach) -> Result<TcpStream, Denied> {
        let unreachable = |why: &str| Denied { code: "unreachable", message: format!("{host}:{port} {why}") };
        let connecting = async {
            let found = match literal(host) {
                Some(ip) => vec![ip],
                None => (self.lookup)(host.to_owned())
                    .await
                    .map_err(|_| unreachable("cannot be found: no such name"))?,
            };
            // One bad address among good ones is a name that plays games.
            let kind = found.iter().find_map(|ip| address::refused(*ip)).filter(|_| reach == Reach::Public);
            if let Some(kind) = kind {
                return Err(Denied { code: "address_refused", message: refusal(host, kind) });
            }
            for ip in found {
                if let Ok(stream) = TcpStream::connect(SocketAddr::new(ip, port)).await {
                    return Ok(stream);
                }
            }
            Err(unreachable("cannot be reached"))
        };
        timeout(CONNECT_MAX, connecting).await.unwrap_or_else(|_| Err(unreachable("did not answer in time")))
    }
}

pub(super) fn refusal(host: &str, kind: &str) -> String {
    format!(
        "{host} is {kind}; such addresses are refused unless the operator's `allow_private` names host and port"
    )
}

/// The address that a host is, when it is no name.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

pub(super) async fn system_lookup(host: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
}
