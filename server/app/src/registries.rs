//! Where this machine's package managers get packages: the named sets of hosts that nobody has listed.
//!
//! npm and pip are asked for their configuration, cargo's and apt's are read; what is configured nowhere is
//! asked of the program too, since no address is written down here. Programs run in `/` with an environment of
//! their own and for a short time, and nothing that a repository holds is read. An address with credentials in it
//! is left out: no jail may see it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use gateway::web::{Finder, Found};
use reqwest::Url;
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::time::timeout;

use crate::tools::{self, Tools};

/// The sets that a machine knows.
pub(crate) const SETS: [&str; 4] = ["linux-distros", "node", "python", "rust"];

/// How long a program may take to say what it is configured for; it takes a second where nobody else works.
const PATIENCE: Duration = Duration::from_secs(30);

/// Variables that configure package managers; the server's own, which the operator set.
const CONFIGURING: [&str; 11] = [
    "XDG_CONFIG_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "NPM_CONFIG_USERCONFIG",
    "NPM_CONFIG_GLOBALCONFIG",
    "PIP_CONFIG_FILE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
];

/// What is not known before cargo was used on this machine.
const UNREAD: &str = "where crates are downloaded from is known once cargo has read its index";

/// pip's own index, and the host of its files.
const PIP_ITSELF: &str =
    "from pip._internal.models.index import PyPI as i; print(i.simple_url); print(i.file_storage_domain)";

/// The package managers of a machine.
#[derive(Debug, Clone)]
pub(crate) struct Registries {
    npm: PathBuf,
    /// The one that jails have, too.
    python: PathBuf,
    cargo: PathBuf,
    cargo_home: PathBuf,
    /// Where apt's configuration is.
    apt: PathBuf,
    /// What programs have in their environment.
    env: BTreeMap<String, String>,
}

impl Registries {
    /// Those of this machine.
    pub(crate) fn of_this_machine(tools: &Tools) -> Self {
        let found = |program: &str| tools.find(program).unwrap_or_else(|| program.into());
        let python = ["/usr/local/bin/python3", "/usr/bin/python3"].map(PathBuf::from);
        let env = |name: &&str| Some(((*name).to_owned(), tools::variable(name)?));
        let home = tools::variable("HOME").map(PathBuf::from).unwrap_or_default();
        Self {
            npm: found("npm"),
            python: python.into_iter().find(|path| path.is_file()).unwrap_or_else(|| found("python3")),
            cargo: found("cargo"),
            cargo_home: tools::variable("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from),
            apt: "/etc/apt".into(),
            env: ["PATH", "HOME"].iter().chain(&CONFIGURING).filter_map(env).collect(),
        }
    }

    /// How a server looks for sets.
    pub(crate) fn finder(self) -> Arc<Finder> {
        let machine = Arc::new(self);
        Arc::new(move |set| {
            let machine = Arc::clone(&machine);
            Box::pin(async move { machine.find(&set).await })
        })
    }

    /// A set, or why it is empty; `None` for a name that is none of [`SETS`].
    pub(crate) async fn find(&self, set: &str) -> Option<Found> {
        let found = match set {
            "node" => self.node().await,
            "python" => self.python().await,
            "rust" => self.rust().await,
            "linux-distros" => Ok(self.linux_distros()),
            _ => return None,
        };
        Some(found.unwrap_or_else(|why| Found { left_out: vec![why], ..Found::default() }))
    }

    async fn node(&self) -> Result<Found, String> {
        let ours = self.command(&self.npm, &["config", "list", "--json"]);
        let mut jails = self.command(&self.npm, &["config", "list", "--json"]);
        // As in a jail, which sees neither a person's file nor the machine's.
        for name in CONFIGURING.iter().filter(|name| name.to_lowercase().starts_with("npm_")) {
            jails.env_remove(name);
        }
        jails
            .env("NPM_CONFIG_USERCONFIG", "/nonexistent/user")
            .env("NPM_CONFIG_GLOBALCONFIG", "/nonexistent/all");
        let (ours, jails) = tokio::join!(say(ours, "npm"), say(jails, "npm"));
        let [ours, jails] = [ours?, jails?].map(|said| serde_json::from_str::<serde_json::Value>(&said).ok());
        let ours = ours.ok_or("npm did not say what it is configured for")?;
        let mut found = Found::from("npm's configuration");
        let registry = ours["registry"].as_str().unwrap_or_default();
        let is_own = jails.is_some_and(|jails| jails["registry"] == ours["registry"]);
        if found.add(registry) && !is_own {
            found.variables.insert("NPM_CONFIG_REGISTRY".to_owned(), registry.to_owned());
        }
        let scoped = ours.as_object().into_iter().flatten().filter(|(key, _)| key.ends_with(":registry"));
        for address in scoped.filter_map(|(_, value)| value.as_str()) {
            found.add(address);
        }
        Ok(found)
    }

    async fn python(&self) -> Result<Found, String> {
        let config = self.command(&self.python, &["-I", "-m", "pip", "config", "list"]);
        let itself = self.command(&self.python, &["-I", "-c", PIP_ITSELF]);
        let (config, itself) = tokio::join!(say(config, "pip"), say(itself, "pip"));
        let config = config?;
        let mut found = Found::from("pip's configuration");
        match setting(&config, "index-url") {
            Some(index) => {
                if found.add(&index) {
                    found.variables.insert("PIP_INDEX_URL".to_owned(), index);
                }
            }
            None => {
                let itself = itself?;
                for (address, scheme) in itself.lines().zip(["", "https://"]) {
                    found.add(&format!("{scheme}{address}"));
                }
            }
        }
        let extra = setting(&config, "extra-index-url").unwrap_or_default();
        let extra: Vec<&str> = extra.split_whitespace().filter(|address| found.add(address)).collect();
        let trusted = setting(&config, "trusted-host").unwrap_or_default();
        for (name, value) in [("PIP_EXTRA_INDEX_URL", extra.join(" ")), ("PIP_TRUSTED_HOST", trusted)] {
            if !value.is_empty() {
                found.variables.insert(name.to_owned(), value);
            }
        }
        Ok(found)
    }

    async fn rust(&self) -> Result<Found, String> {
        let files = ["config.toml", "config"].map(|name| std::fs::read_to_string(self.cargo_home.join(name)));
        let text = files.into_iter().find_map(Result::ok).unwrap_or_default();
        let config: toml::Table =
            text.parse().map_err(|_| "cargo's configuration cannot be read".to_owned())?;
        let mut found = Found::from("cargo's configuration");
        let index = match replacement(&config) {
            Some(index) => {
                let how = "a repository tells a jail's cargo so, by `[source]` in its `.cargo/config.toml`";
                found.left_out.push(format!("cargo is configured for another source of crates; {how}"));
                index?
            }
            None => self.index_of_cargo().await?,
        };
        let index = index.strip_prefix("sparse+").unwrap_or(&index).to_owned();
        if found.add(&index) {
            match self.downloads(&index) {
                Some(address) => {
                    found.add(&address);
                }
                None => found.left_out.push(UNREAD.to_owned()),
            }
        }
        Ok(found)
    }

    /// The index that cargo asks when it is configured for no other. It is told of a proxy at which nobody
    /// answers, and says what it could not reach.
    async fn index_of_cargo(&self) -> Result<String, String> {
        let nobody = |error: std::io::Error| format!("cargo cannot be asked: {error}");
        // Bound and not listening: connections are refused, and no other program takes the port meanwhile.
        let closed = TcpSocket::new_v4().map_err(nobody)?;
        closed.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(nobody)?;
        let proxy = format!("http://{}", closed.local_addr().map_err(nobody)?);
        let home = tempfile::tempdir().map_err(nobody)?;
        let mut search = self.command(&self.cargo, &["search", "--limit", "1", "spellbook"]);
        search.env("CARGO_HOME", home.path()).env("CARGO_HTTP_PROXY", proxy);
        search.env("CARGO_NET_RETRY", "0").env("CARGO_TERM_COLOR", "never");
        let said = match say(search, "cargo").await {
            Ok(said) | Err(said) => said,
        };
        let address = said.split('`').find_map(|word| word.strip_suffix("config.json"));
        address.map(str::to_owned).ok_or_else(|| "cargo did not say where its index is".to_owned())
    }

    /// Where an index says that crates are, if cargo has read it.
    fn downloads(&self, index: &str) -> Option<String> {
        let host = Url::parse(index).ok()?.host_str()?.to_owned();
        let entries = std::fs::read_dir(self.cargo_home.join("registry/index")).ok()?.flatten();
        let mut of_host = entries.filter(|entry| {
            let name = entry.file_name();
            name.to_str().and_then(|name| name.rsplit_once('-')).is_some_and(|(known, _)| known == host)
        });
        let text = std::fs::read_to_string(of_host.next()?.path().join("config.json")).ok()?;
        let config: serde_json::Value = serde_json::from_str(&text).ok()?;
        config["dl"].as_str().map(str::to_owned)
    }

    fn linux_distros(&self) -> Found {
        let mut found = Found::from("apt's sources");
        let parts = std::fs::read_dir(self.apt.join("sources.list.d")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
        files.push(self.apt.join("sources.list"));
        files.sort();
        for file in files {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            let addresses = match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => one_line(&text),
                Some("sources") => stanzas(&text),
                _ => continue,
            };
            for address in addresses.iter().filter(|address| address.starts_with("http")) {
                found.add(address);
            }
        }
        if found.hosts.is_empty() && found.left_out.is_empty() {
            found.left_out.push("apt has no sources".to_owned());
        }
        found
    }

    /// A program in a place that is nobody's project.
    #[expect(
        clippy::disallowed_methods,
        reason = "package managers are asked here what they are configured for"
    )]
    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.env).current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// What a program writes; of one that fails, what it says.
async fn say(mut command: Command, name: &str) -> Result<String, String> {
    let output = match timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("{name} is not on this machine"));
        }
        Ok(Err(error)) => return Err(format!("{name} cannot be asked: {error}")),
        Err(_) => return Err(format!("{name} did not say what it is configured for within {PATIENCE:?}")),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // It may quote an address with a password; only cargo's words are looked at, for an address without.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(if name == "cargo" { said } else { format!("{name} did not say what it is configured for") })
}

/// A setting as `pip config list` writes it: what is said for installing outweighs what is said for all, and the
/// environment both.
fn setting(said: &str, name: &str) -> Option<String> {
    [":env:", "install", "global"].iter().find_map(|section| {
        let key = format!("{section}.{name}=");
        let value = said.lines().find_map(|line| line.strip_prefix(&key))?;
        let value = value.trim_matches(['\'', '"']).replace("\\n", " ");
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    })
}

/// The source that stands in for crates.io's, at the end of the chain.
fn replacement(config: &toml::Table) -> Option<Result<String, String>> {
    let table = |kind: &str, name: &str| config.get(kind)?.get(name);
    let said = |kind: &str, name: &str, key: &str| table(kind, name)?.get(key)?.as_str();
    let mut name = said("source", "crates-io", "replace-with")?;
    // A chain that bites its tail ends, too.
    for _ in 0..8 {
        match said("source", name, "replace-with") {
            Some(next) => name = next,
            None => break,
        }
    }
    let index = said("source", name, "registry").or_else(|| said("registries", name, "index"));
    Some(
        index
            .map(str::to_owned)
            .ok_or_else(|| "cargo gets its crates from a directory of this machine".to_owned()),
    )
}

/// The addresses of a `.list` (sources.list(5)).
fn one_line(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("deb"));
    let address = |line: &str| {
        let rest = line.split_once(char::is_whitespace)?.1.trim_start();
        let rest =
            rest.strip_prefix('[').and_then(|options| options.split_once(']')).map_or(rest, |(_, rest)| rest);
        rest.split_whitespace().next().map(str::to_owned)
    };
    lines.filter_map(address).collect()
}

/// The addresses of a `.sources` (deb822(5)).
fn stanzas(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let (mut key, mut addresses, mut is_on) = ("", Vec::new(), true);
        for line in stanza {
            let value = match line.split_once(':').filter(|_| !line.starts_with([' ', '\t'])) {
                Some((name, value)) => {
                    key = name;
                    value
                }
                None => line,
            };
            match key.to_ascii_lowercase().as_str() {
                "uris" => addresses.extend(value.split_whitespace().map(str::to_owned)),
                "enabled" => is_on = !matches!(value.trim(), "no" | "false" | "off" | "0"),
                _ => {}
            }
        }
        if is_on {
            all.append(&mut addresses);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A machine with nothing but what a test puts there.
    struct Machine {
        home: tempfile::TempDir,
        registries: Registries,
    }

    impl Machine {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let at = |name: &str| home.path().join(name);
            let env = [("PATH", "/usr/bin:/bin"), ("NPM_CONFIG_REGISTRY", "https://env.example/")];
            let registries = Registries {
                npm: at("npm"),
                python: at("python3"),
                cargo: at("cargo"),
                cargo_home: at(".cargo"),
                apt: at("apt"),
                env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            };
            Self { home, registries }
        }

        /// Puts a file there.
        fn with(self, path: &str, text: &str) -> Self {
            let path = self.home.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            self
        }

        /// Puts a program there that does this.
        fn program(self, name: &str, script: &str) -> Self {
            let this = self.with(name, &format!("#!/bin/sh\n{script}\n"));
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(this.home.path().join(name), mode).unwrap();
            this
        }

        /// Expects these hosts, variables, and these words about what is missing.
        async fn check(&self, set: &str, hosts: &[&str], variables: &[(&str, &str)], missing: &[&str]) {
            let found = self.registries.find(set).await.unwrap();
            let told = found.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            assert_eq!(found.hosts, hosts, "{found:?}");
            assert_eq!(told.collect::<Vec<_>>(), variables, "{found:?}");
            assert_eq!(found.left_out.len(), missing.len(), "{found:?}");
            for (said, words) in found.left_out.iter().zip(missing) {
                assert!(said.contains(words), "{said}");
            }
            assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
        }
    }

    /// An npm that is configured for `ours`, and in a jail would ask `own`.
    fn npm(ours: &str, own: &str) -> Machine {
        let script = format!(
            r#"[ "$*" = "config list --json" ] && [ "$PWD" = / ] && [ -z "$SECRET" ] || exit 1
               case "$NPM_CONFIG_USERCONFIG" in
               /nonexistent*) [ -z "$NPM_CONFIG_REGISTRY" ] || exit 1; echo '{{"registry": "{own}"}}' ;;
               *) [ -n "$NPM_CONFIG_REGISTRY" ] || exit 1; echo '{{"registry": "{ours}", "@a:registry": "https://a.example/"}}' ;;
               esac"#
        );
        Machine::new().program("npm", &script)
    }

    #[tokio::test]
    async fn npm_says_where_its_packages_are() {
        let own = "https://npm.example/";
        npm(own, own).check("node", &["npm.example", "a.example"], &[], &[]).await;
        let told = [("NPM_CONFIG_REGISTRY", "http://mirror.example:4873/x/")];
        npm(told[0].1, own).check("node", &["mirror.example:4873", "a.example"], &told, &[]).await;
        npm("https://u:s3cret@m.example/", own)
            .check("node", &["a.example"], &[], &["m.example in npm's"])
            .await;
        let broken = Machine::new().program("npm", "echo s3cret >&2; exit 1");
        broken.check("node", &[], &[], &["npm did not say"]).await;
        Machine::new().check("node", &[], &[], &["npm is not on this machine"]).await;
    }

    /// A Python whose pip is configured like this.
    fn pip(config: &str) -> Machine {
        let script = format!(
            "case \"$*\" in\n'-I -m pip config list') cat <<'END'\n{config}\nEND\n;;\n'-I -c '*) echo \
             https://pip.example/simple; echo files.example ;;\n*) exit 1 ;;\nesac"
        );
        Machine::new().program("python3", &script)
    }

    #[tokio::test]
    async fn pip_says_where_its_packages_are() {
        let own = ["pip.example", "files.example"];
        pip("global.cert='/x'").check("python", &own, &[], &[]).await;
        let told = [("PIP_INDEX_URL", "https://install.example/simple")];
        let config =
            "global.index-url='https://g.example/'\ninstall.index-url='https://install.example/simple'";
        pip(config).check("python", &["install.example"], &told, &[]).await;
        let config = "global.index-url='https://g.example/'\n:env:.index-url='http://m.example:81/'\n\
                      global.extra-index-url='\\nhttps://x.example/\\nhttps://u:s3cret@y.example/'\n\
                      global.trusted-host='m.example'";
        let told = [
            ("PIP_EXTRA_INDEX_URL", "https://x.example/"),
            ("PIP_INDEX_URL", "http://m.example:81/"),
            ("PIP_TRUSTED_HOST", "m.example"),
        ];
        pip(config).check("python", &["m.example:81", "x.example"], &told, &["y.example in pip's"]).await;
        let secret = pip("global.index-url='https://u:s3cret@y.example/'");
        secret.check("python", &[], &[], &["y.example in pip's"]).await;
    }

    /// A cargo that says what it cannot reach, if it is told of a proxy that is closed, and knows nothing else.
    const CARGO: &str = r#"[ "$CARGO_HOME" != "$HOME/.cargo" ] && [ -z "$(ls -A "$CARGO_HOME")" ] || exit 1
case "$CARGO_HTTP_PROXY" in http://127.0.0.1:*) ;; *) exit 1 ;; esac
echo 'error: failed to download from `https://index.example/config.json`' >&2
exit 101"#;

    #[tokio::test]
    async fn cargo_says_where_its_index_is() {
        let machine = Machine::new().program("cargo", CARGO);
        machine.check("rust", &["index.example"], &[], &["once cargo has read its index"]).await;
        let index = |host: &str| format!(".cargo/registry/index/{host}-0123456789abcdef/config.json");
        let machine = machine
            .with(&index("index.example"), r#"{"dl": "https://crates.example:8443/crates/{crate}"}"#)
            .with(&index("other.example"), r#"{"dl": "https://evil.example/"}"#);
        machine.check("rust", &["index.example", "crates.example:8443"], &[], &[]).await;
        let config = "[source.crates-io]\nreplace-with = 'a'\n[source.a]\nreplace-with = 'b'\n";
        let with = |more: &str| Machine::new().with(".cargo/config.toml", &format!("{config}{more}"));
        let mirror = with("[source.b]\nregistry = 'sparse+https://mirror.example/index/'\n");
        mirror.check("rust", &["mirror.example"], &[], &["another source", "once cargo has"]).await;
        let closed = with("[source.b]\nregistry = 'sparse+https://u:s3cret@mirror.example/'\n");
        closed.check("rust", &[], &[], &["another source", "mirror.example in cargo's"]).await;
        with("[source.b]\ndirectory = '/vendor'\n").check("rust", &[], &[], &["from a directory"]).await;
        with("[source.b]\nreplace-with = 'a'\n").check("rust", &[], &[], &["from a directory"]).await;
    }

    #[tokio::test]
    async fn apt_has_sources() {
        let machine = Machine::new()
            .with(
                "apt/sources.list",
                "# deb http://no.example/ x y\ndeb [arch=amd64 signed-by=/k] http://one.example/debian stable main\n\
                 deb-src https://u:s3cret@two.example/ x y\ndeb cdrom:[Debian] x y\n",
            )
            .with(
                "apt/sources.list.d/a.sources",
                "Types: deb\n# c\nURIs: http://three.example:8080/debian\n  https://four.example/\nSuites: x\n\n\
                 Enabled: no\nURIs: http://off.example/\n",
            )
            .with("apt/sources.list.d/b.list.off", "deb http://no.example/ x y");
        let hosts = ["one.example", "three.example:8080", "four.example"];
        machine.check("linux-distros", &hosts, &[], &["two.example in apt's"]).await;
        Machine::new().check("linux-distros", &[], &[], &["apt has no sources"]).await;
        assert_eq!(machine.registries.find("containers").await, None);
    }
}
