//! What comes in: bodies, query strings, path segments; parsed, or refused in words.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json_};

use crate::problem::Problem;

/// A JSON body.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub(crate) struct Json<T>(pub(crate) T);

/// Segments of the path, decoded.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(crate) struct Path<T>(pub(crate) T);

/// A query string whose parameters are all known, each given once.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Ok(Self(fields(parameters(&parts.uri)?)?))
    }
}

/// The parameters of a query string, decoded.
pub(crate) fn parameters(uri: &Uri) -> Result<Map<String, Json_>, Problem> {
    let refused = |detail: String| Problem::bad_request("invalid_query", detail);
    let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| refused("the query string cannot be read; is everything percent-encoded?".to_owned()))?;
    let mut parameters = Map::new();
    for (name, value) in pairs {
        if parameters.contains_key(&name) {
            return Err(refused(format!("`{}` is given more than once", cut(&name))));
        }
        parameters.insert(name, Json_::String(value));
    }
    Ok(parameters)
}

/// Parameters as a struct of texts.
pub(crate) fn fields<T: DeserializeOwned>(parameters: Map<String, Json_>) -> Result<T, Problem> {
    serde_json::from_value(Json_::Object(parameters)).map_err(|error| {
        Problem::bad_request("invalid_query", format!("the query string does not fit: {error}"))
    })
}

/// A name in a path; what cannot be a name of its kind names nothing.
pub(crate) fn known<T: FromStr>(what: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("there is no {what} `{}`", cut(text))))
}

/// A parameter or a field, if it is given.
pub(crate) fn optional<T: FromStr<Err: Display>>(
    field: &str,
    text: Option<&str>,
) -> Result<Option<T>, Problem> {
    text.map(|text| required(field, text)).transpose()
}

/// A parameter or a field.
pub(crate) fn required<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|error: T::Err| Problem::bad_request("invalid_parameter", format!("`{field}`: {error}")))
}

/// Text of somebody else's, short enough to be said back.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(80).filter(|c| !c.is_control()).collect()
}
