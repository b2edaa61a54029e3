//! Git's smart HTTP protocol, served by git's own program (`git help http-backend`).

use async_trait::async_trait;
use bytes::Bytes;
use domain::id::RepositoryId;
use futures::stream::BoxStream;

use crate::source::SourceError;

/// A body in pieces.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Serves fetches and pushes of a repository. Who may do which was decided before.
#[async_trait]
pub trait SmartHttp: std::fmt::Debug + Send + Sync {
    /// Serves one request; the answer begins before the whole request is read. Dropping the answer
    /// ends git.
    ///
    /// # Errors
    /// When there is no such service or repository, or git cannot be started.
    async fn serve(&self, request: GitRequest) -> Result<GitResponse, SourceError>;
}

/// A request of git's.
pub struct GitRequest {
    /// Of which repository.
    pub repository: RepositoryId,
    /// `info/refs`, `git-upload-pack` or `git-receive-pack`.
    pub service: String,
    /// `GET` or `POST`.
    pub method: String,
    /// What stands after `?`, undecoded.
    pub query: String,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The `Content-Encoding` header.
    pub content_encoding: Option<String>,
    /// The `Git-Protocol` header.
    pub protocol: Option<String>,
    /// Who asks; empty for a stranger.
    pub user: String,
    /// Whether they may push.
    pub may_push: MayPush,
    /// The body.
    pub body: ByteStream,
}

/// Whether someone may push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayPush {
    /// They may.
    Yes,
    /// They may only fetch.
    No,
}

impl std::fmt::Debug for GitRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitRequest")
            .field("repository", &self.repository)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// An answer of git's.
pub struct GitResponse {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: ByteStream,
}

impl std::fmt::Debug for GitResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitResponse").field("status", &self.status).finish_non_exhaustive()
    }
}
