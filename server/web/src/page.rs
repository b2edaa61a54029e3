//! Long lists in parts: `?after=…&limit=…` in, `next` and a `Link` header (RFC 8288) out.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use ports::store::Page;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::input;
use crate::problem::Problem;

/// How many entries a part has unless it is said.
const USUAL: u32 = 50;
/// How many entries a part has at most.
const MOST: u32 = 200;

/// Which part of a list is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters; they are read by `Listing`")]
pub(crate) struct PageParams {
    /// The `next` of the part before; without it the list begins.
    after: Option<String>,
    /// How many entries at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Part<T> {
    /// The entries.
    pub(crate) items: Vec<T>,
    /// What to give as `after` for the next part; null when this is the last.
    pub(crate) next: Option<String>,
}

impl<T> Part<T> {
    /// A list that is never so long that it has parts.
    pub(crate) fn whole(items: Vec<T>) -> axum::Json<Self> {
        axum::Json(Self { items, next: None })
    }
}

/// No parameters besides those of the page.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoFilter {}

/// What a list is asked for: a filter, whose fields are optional texts, and a part.
pub(crate) struct Listing<F> {
    pub(crate) filter: F,
    after: Option<String>,
    limit: u32,
    uri: Uri,
}

impl<F: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Listing<F> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let uri = parts
            .extensions
            .get::<axum::extract::OriginalUri>()
            .map_or_else(|| parts.uri.clone(), |uri| uri.0.clone());
        let mut parameters = input::parameters(&uri)?;
        let mut take = |name| match parameters.remove(name) {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        };
        let (after, limit) = (take("after"), take("limit"));
        let limit = limit.map_or(Ok(USUAL), |text| {
            text.parse().ok().filter(|limit| (1..=MOST).contains(limit)).ok_or_else(|| {
                Problem::bad_request("invalid_limit", format!("`limit` must be a number from 1 to {MOST}"))
            })
        })?;
        Ok(Self { filter: input::fields(parameters)?, after, limit, uri })
    }
}

impl<F> Listing<F> {
    /// The page to ask the store for: one entry more than wanted, which shows whether there is more.
    pub(crate) fn page<I: FromStr>(&self, uuid: fn(I) -> Uuid) -> Result<Page, Problem> {
        let after = self.after.as_deref().map(|text| {
            text.parse().map(uuid).map_err(|_| {
                Problem::bad_request("invalid_cursor", "`after` must be the `next` of the part before")
            })
        });
        Ok(Page { after: after.transpose()?, size: self.limit + 1 })
    }

    /// A cursor that is a number.
    pub(crate) fn number(&self) -> Result<u64, Problem> {
        self.after.as_deref().map_or(Ok(0), |text| {
            text.parse()
                .map_err(|_| Problem::bad_request("invalid_cursor", "`after` must be a line's number"))
        })
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// The entries that were found, as a part.
    pub(crate) fn part<T>(&self, mut found: Vec<T>, cursor: impl Fn(&T) -> String) -> Paged<T> {
        let wanted = self.limit as usize;
        let next = if found.len() > wanted { found.get(wanted - 1).map(cursor) } else { None };
        found.truncate(wanted);
        let link = next.as_deref().map(|next| self.link(next));
        Paged { part: Part { items: found, next }, link }
    }

    /// The same request, for the next part.
    fn link(&self, next: &str) -> String {
        let kept = self
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.starts_with("after="));
        let query: Vec<&str> = kept.collect();
        let separator = if query.is_empty() { "" } else { "&" };
        format!("<{}?{}{separator}after={next}>; rel=\"next\"", self.uri.path(), query.join("&"))
    }
}

/// A part of a list, and where the next one is.
pub(crate) struct Paged<T> {
    part: Part<T>,
    link: Option<String>,
}

impl<T> Paged<T> {
    /// The same part with other entries.
    pub(crate) fn map<U>(self, f: impl FnMut(T) -> U) -> Paged<U> {
        let Part { items, next } = self.part;
        Paged { part: Part { items: items.into_iter().map(f).collect(), next }, link: self.link }
    }

    pub(crate) fn items(&self) -> &[T] {
        &self.part.items
    }
}

impl<T: Serialize> IntoResponse for Paged<T> {
    fn into_response(self) -> Response {
        let mut response = axum::Json(&self.part).into_response();
        if let Some(link) = self.link.and_then(|link| HeaderValue::from_str(&link).ok()) {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

impl<T> Paged<Option<T>> {
    /// The entries that are there.
    pub(crate) fn flatten(self) -> Paged<T> {
        let Part { items, next } = self.part;
        Paged { part: Part { items: items.into_iter().flatten().collect(), next }, link: self.link }
    }
}
