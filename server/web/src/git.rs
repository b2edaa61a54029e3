//! Git over smart HTTP: `/git/{owner}/{name}.git/…`, streamed both ways.
//!
//! Who may fetch and push is decided here; what a push may hold is decided behind the port. What git
//! is told when it is refused is plain text, which git prints.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::access::{Principal, Role};
use domain::name::{RepositoryName, RepositoryPath};
use domain::repository::{Origin, Repository};
use futures::{StreamExt, TryStreamExt};
use ports::smart_http::{GitRequest, GitResponse, MayPush};

use crate::auth;
use crate::doors::Server;
use crate::problem::Problem;

/// Where git's requests begin.
const PREFIX: &str = "/git/";

/// The services of the smart protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    /// Fetching.
    Upload,
    /// Pushing.
    Receive,
}

impl Service {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "git-upload-pack" => Some(Self::Upload),
            "git-receive-pack" => Some(Self::Receive),
            _ => None,
        }
    }
}

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    path: RepositoryPath,
    service: Service,
    /// As the port knows it: `info/refs`, `git-upload-pack`, `git-receive-pack`.
    endpoint: &'static str,
}

/// Serves a request of git's.
pub(crate) async fn serve(State(server): State<Arc<Server>>, request: Request) -> Response {
    match answer(&server, request).await {
        Ok(response) => response,
        Err(problem) => problem.for_git(),
    }
}

async fn answer(server: &Server, request: Request) -> Result<Response, Problem> {
    let target =
        target(request.uri().path(), request.uri().query().unwrap_or_default()).ok_or_else(|| {
            Problem::not_found("there is no such repository; addresses look like /git/owner/name.git")
        })?;
    let expected = if target.endpoint == "info/refs" { Method::GET } else { Method::POST };
    if request.method() != expected {
        let detail = format!("this address answers to {expected} only");
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail));
    }
    let principal = auth::principal(request.headers(), server).await?;
    permit(server, principal.as_ref(), target.service)?;
    let repository = repository(server, &target, principal.as_ref()).await?;
    let response = server.doors.git.serve(forward(request, &target, &repository, principal.as_ref())).await?;
    Ok(back(response))
}

/// The repository and service that an address names, undecoded: what git itself writes needs no
/// percent signs, so an address that has one names nothing.
fn target(path: &str, query: &str) -> Option<Target> {
    let (owner, rest) = path.strip_prefix(PREFIX)?.split_once('/')?;
    let (name, endpoint) = rest.split_once('/')?;
    let name: RepositoryName = name.strip_suffix(".git")?.parse().ok()?;
    let path = RepositoryPath { owner: owner.parse().ok()?, name };
    if endpoint == "info/refs" {
        // Without a service this is the dumb protocol, which is not served.
        let service = query.split('&').find_map(|pair| pair.strip_prefix("service="))?;
        return Some(Target { path, service: Service::parse(service)?, endpoint: "info/refs" });
    }
    let service = Service::parse(endpoint)?;
    let endpoint = match service {
        Service::Upload => "git-upload-pack",
        Service::Receive => "git-receive-pack",
    };
    Some(Target { path, service, endpoint })
}

/// Says no to those who may not use a service.
fn permit(server: &Server, principal: Option<&Principal>, service: Service) -> Result<(), Problem> {
    let needed = match service {
        Service::Upload => Role::Viewer,
        Service::Receive => Role::Maintainer,
    };
    match principal {
        Some(principal) if principal.may(needed) => Ok(()),
        Some(principal) => Err(Problem::forbidden(needed, principal.role)),
        None if service == Service::Upload && server.settings().public_read => Ok(()),
        None => {
            Err(Problem::unauthorized("token_missing", "sign in: any user name, and a token as the password"))
        }
    }
}

/// The repository of a request. The first push makes it: git asks for its refs before it pushes.
async fn repository(
    server: &Server,
    target: &Target,
    principal: Option<&Principal>,
) -> Result<Repository, Problem> {
    let path = &target.path;
    let found = server.store().repository_find(path).await?;
    let repository = match (found, target.service) {
        (Some(repository), _) => repository,
        (None, Service::Upload) => {
            return Err(Problem::not_found(format!("there is no repository `{path}`")));
        }
        (None, Service::Receive) => create(server, path, principal).await?,
    };
    if target.service == Service::Receive && repository.origin != Origin::Hosted {
        let detail = format!("`{path}` is watched: push to where its commits come from");
        return Err(Problem::new(StatusCode::FORBIDDEN, "repository_watched", detail));
    }
    Ok(repository)
}

async fn create(
    server: &Server,
    path: &RepositoryPath,
    principal: Option<&Principal>,
) -> Result<Repository, Problem> {
    let branch = "main".parse().expect("because `main` is a branch name");
    match engine::repositories::create(server.world(), path.clone(), Origin::Hosted, branch).await {
        Ok(repository) => {
            let by = principal.map_or("somebody", |principal| principal.account.name.as_str());
            tracing::info!(repository.id = %repository.id, "{by} makes {path} by pushing to it");
            Ok(repository)
        }
        // Two first pushes at once: the other one made it.
        Err(refusal) => match server.store().repository_find(path).await? {
            Some(repository) => Ok(repository),
            None => Err(refusal.into()),
        },
    }
}

fn forward(
    request: Request,
    target: &Target,
    repository: &Repository,
    principal: Option<&Principal>,
) -> GitRequest {
    let (parts, body) = request.into_parts();
    let text = |name: HeaderName| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
    };
    let may_push = principal.is_some_and(|principal| principal.may(Role::Maintainer));
    GitRequest {
        repository: repository.id,
        service: target.endpoint.to_owned(),
        method: parts.method.to_string(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type: text(header::CONTENT_TYPE),
        content_encoding: text(header::CONTENT_ENCODING),
        protocol: text(HeaderName::from_static("git-protocol")),
        user: principal.map(|principal| principal.account.name.clone()).unwrap_or_default(),
        may_push: if may_push { MayPush::Yes } else { MayPush::No },
        body: body.into_data_stream().map_err(std::io::Error::other).boxed(),
    }
}

fn back(git: GitResponse) -> Response {
    let status = StatusCode::from_u16(git.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = (status, Body::from_stream(git.body)).into_response();
    for (name, value) in git.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expect: Option<(&str, Service, &str)>) {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let got =
            target(path, query).map(|target| (target.path.to_string(), target.service, target.endpoint));
        assert_eq!(
            got,
            expect.map(|(path, service, endpoint)| (path.to_owned(), service, endpoint)),
            "{address}"
        );
    }

    #[test]
    fn addresses_name_a_repository_and_a_service() {
        check(
            "/git/ada/book.git/info/refs?service=git-upload-pack",
            Some(("ada/book", Service::Upload, "info/refs")),
        );
        check(
            "/git/ada/book.git/info/refs?service=git-receive-pack",
            Some(("ada/book", Service::Receive, "info/refs")),
        );
        check("/git/ada/book.git/git-upload-pack", Some(("ada/book", Service::Upload, "git-upload-pack")));
        check(
            "/git/ada/b.o_k.git/git-receive-pack",
            Some(("ada/b.o_k", Service::Receive, "git-receive-pack")),
        );
    }

    #[test]
    fn everything_else_names_nothing() {
        for address in [
            "/git/ada/book.git/info/refs",
            "/git/ada/book.git/info/refs?service=git-upload-archive",
            "/git/ada/book.git/info/refs?service=--upload-pack=x",
            "/git/ada/book.git/HEAD",
            "/git/ada/book.git/objects/info/packs",
            "/git/ada/book.git/objects/00/00",
            "/git/ada/book.git/git-upload-archive",
            "/git/ada/book/info/refs?service=git-upload-pack",
            "/git/ada/../book.git/info/refs?service=git-upload-pack",
            "/git/../ada/book.git/info/refs?service=git-upload-pack",
            "/git/../book.git/info/refs?service=git-upload-pack",
            "/git/ada/...git/info/refs?service=git-upload-pack",
            "/git/ada/%2e%2e.git/info/refs?service=git-upload-pack",
            "/git/ada%2fbook.git/info/refs?service=git-upload-pack",
            "/git/ada/book%2egit/info/refs?service=git-upload-pack",
            "/git//ada/book.git/info/refs?service=git-upload-pack",
            "/git/ada//book.git/info/refs?service=git-upload-pack",
            "/git/ada/book.git//info/refs?service=git-upload-pack",
            "/git/ada/book.git/info/refs/?service=git-upload-pack",
            "/git/ada/book.git.git/info/refs?service=git-upload-pack",
            "/git/-ada/-o.git/info/refs?service=git-upload-pack",
            "/git/ada/.git/info/refs?service=git-upload-pack",
            "/git/ada/book.git",
            "/git/",
        ] {
            check(address, None);
        }
    }
}
