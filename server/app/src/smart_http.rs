//! Git over HTTP: the doors' request in git's own terms.

use async_trait::async_trait;
use futures::TryStreamExt;
use git::http::{Access, Backend, BackendError, CgiRequest};
use ports::smart_http::{GitRequest, GitResponse, MayPush, SmartHttp};
use ports::source::SourceError;
use tokio_util::io::StreamReader;

/// The backend, and what its hooks are told.
#[derive(Debug)]
pub(crate) struct GitBackend {
    pub(crate) backend: Backend,
    /// The program that hooks run, and the socket over which it asks this server.
    pub(crate) hooks: Vec<(String, String)>,
}

/// The variables by which a hook tells the server whose push it is.
pub(crate) const HOOK_REPOSITORY: &str = "SPELLBOOK_REPOSITORY";
pub(crate) const HOOK_USER: &str = "SPELLBOOK_USER";

#[async_trait]
impl SmartHttp for GitBackend {
    async fn serve(&self, request: GitRequest) -> Result<GitResponse, SourceError> {
        let mut hook_environment = self.hooks.clone();
        hook_environment.push((HOOK_REPOSITORY.to_owned(), request.repository.to_string()));
        hook_environment.push((HOOK_USER.to_owned(), request.user.clone()));
        let cgi = CgiRequest {
            repository: request.repository,
            service: request.service,
            query: request.query,
            method: request.method,
            content_type: request.content_type,
            content_encoding: request.content_encoding,
            git_protocol: request.protocol,
            remote_user: Some(request.user).filter(|user| !user.is_empty()),
            access: match request.may_push {
                MayPush::Yes => Access::Write,
                MayPush::No => Access::Read,
            },
            hook_environment,
            body: Box::pin(StreamReader::new(request.body)),
        };
        let response = self.backend.serve(cgi).await.map_err(|error| refused(&error))?;
        Ok(GitResponse {
            status: response.status,
            headers: response.headers,
            body: Box::pin(response.body.into_stream()),
        })
    }
}

fn refused(error: &BackendError) -> SourceError {
    match error {
        BackendError::NotFound => SourceError::NotFound(error.to_string()),
        BackendError::Method | BackendError::Forbidden => SourceError::Refused(error.to_string()),
        BackendError::Busy => SourceError::Unreachable(error.to_string()),
        BackendError::Broken(_) => SourceError::Broken(error.to_string()),
    }
}
