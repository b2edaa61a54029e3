//! Sets of hosts by name: those that ship with the program, with the operator's laid over them. What nobody
//! has listed is asked of the machine when a daemon first names it: where its own package managers get packages.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use reqwest::Url;
use tokio::sync::Mutex;

use super::BuildError;
use super::allowed::{self, Sets, Verdict};

/// What a machine knows of a set by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The hosts, as in a manifest.
    pub hosts: Vec<String>,
    /// What tells programs in a jail to ask these hosts, in variables of their environment. No secrets.
    pub variables: BTreeMap<String, String>,
    /// Whose configuration says so, for people.
    pub from: String,
    /// What is missing, and why, for people.
    pub left_out: Vec<String>,
}

impl Found {
    /// Nothing yet, from this configuration.
    #[must_use]
    pub fn from(whose: &str) -> Self {
        Self { from: whose.to_owned(), ..Self::default() }
    }

    /// Adds the host of an address; says whether the address may be told in a jail. One with credentials in it
    /// may not, and is left out.
    pub fn add(&mut self, address: &str) -> bool {
        let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some((url, host)) = url.as_ref().and_then(|url| Some((url, url.host_str()?))) else {
            self.left_out.push(format!("an address in {} is not one of the web", self.from));
            return false;
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            let why = format!("{host} in {} is asked with credentials, which no jail may see", self.from);
            self.left_out.push(why);
            return false;
        }
        let entry = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if !self.hosts.contains(&entry) {
            self.hosts.push(entry);
        }
        true
    }
}

/// Looks for a set on this machine; `None` for a name that means nothing to it.
pub type Finder = dyn Fn(String) -> BoxFuture<'static, Option<Found>> + Send + Sync;

/// The sets of a server.
pub(super) struct Known {
    /// Those that somebody listed.
    listed: Sets,
    /// The same, and what was found since.
    all: RwLock<Arc<Sets>>,
    found: Mutex<BTreeMap<String, Found>>,
    finder: Option<Arc<Finder>>,
}

impl Known {
    /// The shipped sets with the operator's laid over them.
    pub(super) fn build(operator: &Sets) -> Result<Self, BuildError> {
        let mut listed = allowed::shipped();
        for (name, hosts) in operator {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(BuildError::Set(
                    name.clone(),
                    "its name has more than a-z, 0-9 and `-`".to_owned(),
                ));
            }
            if let Some(wrong) = hosts.iter().find(|host| !allowed::is_entry(host)) {
                return Err(BuildError::Set(name.clone(), format!("`{wrong}` is no host")));
            }
            listed.insert(name.clone(), hosts.clone());
        }
        let all = RwLock::new(Arc::new(listed.clone()));
        Ok(Self { listed, all, found: Mutex::default(), finder: None })
    }

    /// What is not listed is looked for like this.
    pub(super) fn find_by(&mut self, finder: Arc<Finder>) {
        self.finder = Some(finder);
    }

    /// Those that are known so far.
    pub(super) fn now(&self) -> Arc<Sets> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has every set of a list known that can be, and tells programs where they are: by the variables of
    /// those whose every host the list names.
    pub(super) async fn look(&self, list: &[String]) -> BTreeMap<String, String> {
        let Some(finder) = &self.finder else { return BTreeMap::new() };
        let mut variables = BTreeMap::new();
        for name in list.iter().filter(|name| allowed::is_set(name)) {
            let mut known = self.found.lock().await;
            let found = match known.get(name) {
                Some(found) => found.clone(),
                None => match finder(name.clone()).await {
                    Some(found) => {
                        self.learn(name, &found);
                        // What is not there now may be installed or mended later.
                        if !found.hosts.is_empty() {
                            known.insert(name.clone(), found.clone());
                        }
                        found
                    }
                    None => continue,
                },
            };
            drop(known);
            if found.hosts.iter().all(|host| self.names(list, host)) {
                variables.extend(found.variables);
            }
        }
        variables
    }

    fn learn(&self, name: &str, found: &Found) {
        let (hosts, missing) = (found.hosts.join(", "), found.left_out.join("; "));
        if found.hosts.is_empty() {
            tracing::warn!(web.set = name, "the set of hosts `{name}` is not found: {missing}");
            return;
        }
        if self.listed.contains_key(name) {
            return;
        }
        tracing::info!(web.set = name, "the set of hosts `{name}` is {hosts}, as {} says", found.from);
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut all).insert(name.to_owned(), found.hosts.clone());
    }

    /// Whether a list leads to an entry of a set.
    fn names(&self, list: &[String], entry: &str) -> bool {
        let port = |usual| allowed::place(entry, Some(usual));
        [443, 80].into_iter().filter_map(port).any(|(host, port)| {
            allowed::verdict(list, &self.now(), &host, port, &[443, 80]) == Verdict::Named
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A machine whose `node` is a mirror, and how often it was asked.
    fn machine() -> (Arc<Finder>, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let finder: Arc<Finder> = Arc::new(move |name| {
            counted.fetch_add(1, Ordering::SeqCst);
            let variables = BTreeMap::from([("REGISTRY".to_owned(), "https://npm.example/".to_owned())]);
            let node = Found { hosts: vec!["npm.example".to_owned()], variables, ..Found::default() };
            let found = match name.as_str() {
                "node" => Some(node),
                "python" => Some(Found::default()),
                _ => None,
            };
            Box::pin(async move { found })
        });
        (finder, asked)
    }

    /// The hosts of a set and the variables, after a look.
    async fn check(operator: &[(&str, &str)], list: &[&str], set: &str, hosts: &[&str], is_told: bool) {
        let own = |(name, host): &(&str, &str)| ((*name).to_owned(), vec![(*host).to_owned()]);
        let mut known = Known::build(&operator.iter().map(own).collect()).unwrap();
        known.find_by(machine().0);
        let list: Vec<String> = list.iter().map(|entry| (*entry).to_owned()).collect();
        let variables = known.look(&list).await;
        let now = known.now();
        let found: Vec<&str> = now.get(set).into_iter().flatten().map(String::as_str).collect();
        assert_eq!((found.as_slice(), variables.contains_key("REGISTRY")), (hosts, is_told), "{list:?}");
    }

    #[test]
    fn an_address_with_credentials_is_left_out() {
        let mut found = Found::from("a file");
        let added = [
            ("https://npm.example/", true),
            ("https://npm.example/again", true),
            ("http://npm.example:8080/x", true),
            ("https://u@one.example/", false),
            ("https://u:s3cret@two.example/", false),
            ("https://three.example/?token=s3cret", false),
            ("file:///s3cret", false),
            ("s3cret", false),
        ];
        for (address, is_added) in added {
            assert_eq!(found.add(address), is_added, "{address}");
        }
        assert_eq!(found.hosts, ["npm.example", "npm.example:8080"]);
        assert_eq!(found.left_out.len(), 5);
        assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
    }

    #[tokio::test]
    async fn what_nobody_listed_is_looked_for() {
        check(&[], &["node"], "node", &["npm.example"], true).await;
        check(&[], &["npm.example"], "node", &[], false).await;
        check(&[], &["python", "rust", "node.example"], "python", &[], false).await;
    }

    #[tokio::test]
    async fn what_the_operator_lists_is_so() {
        check(&[("node", "other.example")], &["node"], "node", &["other.example"], false).await;
        check(&[("node", "npm.example")], &["node"], "node", &["npm.example"], true).await;
        check(&[("node", "other.example")], &["node", "npm.example"], "node", &["other.example"], true).await;
    }

    #[tokio::test]
    async fn a_machine_is_asked_once_for_what_it_has() {
        let mut known = Known::build(&Sets::new()).unwrap();
        let (finder, asked) = machine();
        known.find_by(finder);
        let list = ["node", "python"].map(str::to_owned);
        for _ in 0..3 {
            known.look(&list).await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), 4, "`node` once, `python`, which is not there, each time");
    }
}
