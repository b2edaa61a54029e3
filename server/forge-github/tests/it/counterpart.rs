//! What is behind the gate: the hub, or a program that answers in its place. Each request is held against GitHub's
//! own description of its API, of which `openapi.json` holds those that are made here (`tools/github-openapi.py`).

use std::sync::LazyLock;

use domain::name::Commit;
use domain::time::Timestamp;
use ports::source::{Moved, PushSpec};
use reqwest::Url;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use testkit::hub::{Answer, Hub};
use testkit::{Answering, Asked, Behind, Contract};

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::read(include_str!("openapi.json")));

/// A GitHub.
pub(crate) struct Counterpart {
    pub(crate) hub: Hub,
    /// Who answers in its place.
    pub(crate) program: Option<Program>,
}

impl Behind for Counterpart {
    const API: &str = "";
    const SLOWER: (u16, &str) = (403, "You have exceeded a secondary rate limit");

    fn answer(&mut self, asked: &Asked, now: Timestamp) -> Answer {
        self.hub.now = now;
        self.hub.answer(asked)
    }

    fn push(&mut self, push: &PushSpec<'_>) -> Moved {
        let PushSpec { remote, branch, from, to, .. } = push;
        let hub = &mut self.hub;
        assert!(remote.url.ends_with(&format!("/{}.git", hub.path)), "{}", remote.url);
        let token = remote.credential.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
        let is_allowed = hub.tokens.get(token).is_some_and(|allowed| allowed["contents"] == "write");
        assert!(token == "ghp_plain" || is_allowed, "the token is not good for pushing");
        let at = hub.branches.get(branch.as_str()).cloned();
        if at.as_deref() != from.map(Commit::as_str) {
            return Moved::Stale { actual: at.and_then(|at| Commit::parse(at).ok()) };
        }
        hub.branches.insert(branch.to_string(), to.to_string());
        Moved::Moved
    }

    fn violations(&self, asked: &Asked) -> Vec<String> {
        let mut wrong = undescribed(asked);
        if !asked.headers.contains_key("x-github-api-version") {
            wrong.push(format!("{} {}: of which version of the API?", asked.method, asked.path));
        }
        wrong
    }

    fn moved(&self, asked: &Asked) -> Option<String> {
        self.hub.moved(&asked.path)
    }

    fn elsewhere(&self, asked: &Asked) -> Option<Answering> {
        let (program, asked) = (self.program.clone()?, asked.clone());
        Some(Box::pin(async move { program.answer(&asked).await }))
    }
}

/// What of a request GitHub's description does not have. The links of its lists lead to `/repositories/…`, which it
/// does not name.
fn undescribed(asked: &Asked) -> Vec<String> {
    if asked.method == "GET" && asked.path.starts_with("/repositories/") {
        return Vec::new();
    }
    CONTRACT.violations(asked)
}

/// A program that speaks GitHub's API.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    address: String,
    http: reqwest::Client,
}

impl Program {
    pub(crate) fn new(address: &str) -> Self {
        // Another part of the program may have done so already; one is enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The emulator hangs up on connections that nobody used for a while, and perhaps just then.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        Self { address: address.to_owned(), http }
    }

    /// Asks for a path below the API; says with which status it was answered, and what.
    pub(crate) async fn ask(&self, method: &str, path: &str, token: &str, body: Option<&Value>) -> Answer {
        self.ask_at(method, format!("{}{path}", self.address).parse().unwrap(), token, body).await
    }

    async fn answer(&self, asked: &Asked) -> Answer {
        let url = Url::parse_with_params(&format!("{}{}", self.address, asked.path), &asked.query).unwrap();
        self.ask_at(&asked.method, url, asked.bearer(), asked.body.as_ref()).await
    }

    async fn ask_at(&self, method: &str, url: Url, token: &str, body: Option<&Value>) -> Answer {
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }
}

#[test]
fn it_knows_what_github_would_not_take() {
    let check = |method: &str, path: &str, query: &[(&str, &str)], body: Option<Value>, expect: &str| {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (method, path, headers) = (method.to_owned(), path.to_owned(), [].into());
        let wrong = undescribed(&Asked { method, path, query, body, headers }).join("\n");
        assert!(wrong.is_empty() == expect.is_empty() && wrong.contains(expect), "{wrong}");
    };
    check("GET", "/repos/a/b/issues", &[("state", "open"), ("per_page", "100")], None, "");
    check("GET", "/repos/a/b/issues", &[("state", "ajar")], None, "`state`");
    check("GET", "/repos/a/b/issues", &[("sated", "x")], None, "no parameter");
    check("GET", "/repos/a/b/git/ref/heads/a/b", &[], None, "");
    check("GET", "/repos/a/b/nothing", &[], None, "no such operation");
    check("GET", "/repositories/7/issues", &[], None, "");
    check("POST", "/repos/a/b/issues", &[], Some(json!({ "body": "x" })), "title");
    check("POST", "/repos/a/b/issues", &[], Some(json!({ "title": "x", "colour": 1 })), "colour");
    let odd = json!({ "name": "x", "head_sha": "y", "status": "odd" });
    check("POST", "/repos/a/b/check-runs", &[], Some(odd), "body");
}
