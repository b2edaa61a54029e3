use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use ports::proxy::{Guest, Proxy, Visit, VisitReport};
use ports::sandbox::Door;
use secrecy::SecretString;

use super::Asked;

type Script = dyn Fn(&Guest) -> VisitReport + Send + Sync;

/// A proxy behind whose doors nobody answers: a script says what has passed when a visit ends. What calls
/// cost comes out of the guest's till then.
pub struct ScriptedProxy {
    script: Arc<Script>,
    asked: Asked<Guest>,
    open: Arc<AtomicUsize>,
}

impl ScriptedProxy {
    /// A proxy whose visits go as `script` says.
    pub fn new(script: impl Fn(&Guest) -> VisitReport + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), asked: Asked::nothing(), open: Arc::default() }
    }

    /// A proxy that nobody asks for anything.
    pub fn silent() -> Self {
        Self::new(|_| VisitReport::default())
    }

    /// Who was admitted, in order.
    pub fn guests(&self) -> Vec<Guest> {
        self.asked.all()
    }

    /// Visits that nobody has ended.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for ScriptedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedProxy").field("asked", &self.asked).finish_non_exhaustive()
    }
}

#[async_trait]
impl Proxy for ScriptedProxy {
    async fn variables(&self, _allowed: &[String]) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn admit(&self, guest: Guest) -> Arc<dyn Visit> {
        self.asked.note(&guest);
        self.open.fetch_add(1, Ordering::SeqCst);
        let (script, open) = (Arc::clone(&self.script), Arc::clone(&self.open));
        Arc::new(Scripted { guest, script, open, report: std::sync::OnceLock::new() })
    }
}

struct Scripted {
    guest: Guest,
    script: Arc<Script>,
    open: Arc<AtomicUsize>,
    report: std::sync::OnceLock<VisitReport>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("guest", &self.guest).finish_non_exhaustive()
    }
}

impl Door for Scripted {
    fn open(&self, listener: TcpListener) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(listener))
    }
}

impl Visit for Scripted {
    fn token(&self) -> SecretString {
        SecretString::from("a token of this visit")
    }

    fn end(&self) -> VisitReport {
        let report = self.report.get_or_init(|| {
            self.open.fetch_sub(1, Ordering::SeqCst);
            let mut report = (self.script)(&self.guest);
            for call in &mut report.calls {
                // A till on a store in memory never lets anybody wait.
                let reserved = self.guest.till.reserve(&super::intended(call)).now_or_never();
                if let Some(Ok(reservation)) = reserved {
                    reservation.settle(call);
                }
            }
            report
        });
        report.clone()
    }
}
