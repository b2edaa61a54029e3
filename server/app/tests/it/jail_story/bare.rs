//! The repository itself, served by git's own `http-backend`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::front::said;
use crate::house::hermetic;

/// A bare repository below a directory that is served.
#[derive(Debug, Clone)]
pub(crate) struct Bare {
    root: PathBuf,
    pub(crate) path: PathBuf,
}

impl Bare {
    pub(crate) fn new(root: &Path, name: &str) -> Self {
        let bare = Self { root: root.to_owned(), path: root.join(format!("{name}.git")) };
        std::fs::create_dir_all(&bare.path).unwrap();
        bare.says(&["init", "--quiet", "--bare", "--initial-branch=main", "."]);
        bare.says(&["config", "http.receivepack", "true"]);
        // As GitHub allows: a commit of anybody's can be asked for.
        bare.says(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
        bare
    }

    /// What git writes.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let mut git = hermetic(Command::new("git"), &self.root);
        let output = git.args(arguments).current_dir(&self.path).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Where the branches are.
    pub(crate) fn branches(&self) -> BTreeMap<String, String> {
        let list = self.says(&["for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads"]);
        let pair = |line: &str| line.split_once(' ').map(|(name, tip)| (name.to_owned(), tip.to_owned()));
        list.lines().filter_map(pair).collect()
    }

    pub(crate) fn point(&self, name: &str, at: &str) {
        self.says(&["update-ref", name, at]);
    }

    /// One request, as a CGI program answers it (RFC 3875).
    pub(super) fn serve(&self, parts: &Parts, body: &[u8]) -> Response {
        let mut command = hermetic(Command::new("git"), &self.root);
        command
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("PATH_INFO", parts.uri.path())
            .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
            .env("REQUEST_METHOD", parts.method.as_str())
            .env("CONTENT_TYPE", said(&parts.headers, "content-type"))
            .env("CONTENT_LENGTH", body.len().to_string())
            .env("HTTP_CONTENT_ENCODING", said(&parts.headers, "content-encoding"))
            .env("GIT_PROTOCOL", said(&parts.headers, "git-protocol"))
            .env("REMOTE_USER", "spellbook")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // Git may answer before it has read everything.
        let _ = input.write_all(body);
        drop(input);
        let output = child.wait_with_output().unwrap().stdout;
        let Some(end) = output.windows(4).position(|four| four == b"\r\n\r\n") else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let head = String::from_utf8_lossy(&output[..end]).into_owned();
        let mut response = Response::builder();
        for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            response = match name {
                "Status" => response.status(value[..3].parse::<u16>().unwrap()),
                _ => response.header(name, value),
            };
        }
        response.body(Body::from(output[end + 4..].to_vec())).unwrap()
    }
}
