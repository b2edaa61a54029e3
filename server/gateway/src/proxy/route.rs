//! Which requests there are: method and path, compared as they are. Nothing is decoded or tidied
//! before, so `//v1/messages` and `%2e%2e` are other paths than those of the list.

use hyper::Method;

use crate::config::Dialect;

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// Whether anyone is there.
    Probe,
    /// Which models there are.
    Models,
    /// A call of a model.
    Call(Call),
}

/// A call of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) dialect: Dialect,
    pub(super) kind: Kind,
    /// The model, where the path names it.
    pub(super) model: Option<String>,
}

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An answer; whether it comes in pieces says the body.
    Answer,
    /// An answer in pieces, because the path says so.
    Stream,
    /// A shorter form of a conversation.
    Compact,
    /// How many tokens a question has. Nobody charges for that.
    Count,
    /// Pictures.
    Pictures,
    /// Other pictures, from pictures.
    Edits,
}

impl Route {
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        use {Dialect as D, Kind as K};
        let call = |dialect, kind| Some(Self::Call(Call { dialect, kind, model: None }));
        if method == Method::HEAD && path == "/" {
            return Some(Self::Probe);
        }
        if method == Method::GET && path == "/v1/models" {
            return Some(Self::Models);
        }
        if method != Method::POST {
            return None;
        }
        match path {
            "/v1/chat/completions" => call(D::OpenaiChat, K::Answer),
            "/v1/responses" => call(D::OpenaiResponses, K::Answer),
            "/v1/responses/compact" => call(D::OpenaiResponses, K::Compact),
            "/v1/messages" => call(D::AnthropicMessages, K::Answer),
            "/v1/messages/count_tokens" => call(D::AnthropicMessages, K::Count),
            "/v1/images/generations" => call(D::OpenaiImages, K::Pictures),
            "/v1/images/edits" => call(D::OpenaiImages, K::Edits),
            _ => gemini(path),
        }
    }

    /// Whose language it is, by its path alone: what a refusal is written in.
    pub(super) fn dialect_of(path: &str) -> Option<Dialect> {
        let all = [
            ("/v1/chat/", Dialect::OpenaiChat),
            ("/v1/responses", Dialect::OpenaiResponses),
            ("/v1/messages", Dialect::AnthropicMessages),
            ("/v1/images/", Dialect::OpenaiImages),
            ("/v1beta/", Dialect::Gemini),
        ];
        all.into_iter().find_map(|(begin, dialect)| path.starts_with(begin).then_some(dialect))
    }
}

fn gemini(path: &str) -> Option<Route> {
    let (model, verb) = path.strip_prefix("/v1beta/models/")?.rsplit_once(':')?;
    let kind = match verb {
        "generateContent" => Kind::Answer,
        "streamGenerateContent" => Kind::Stream,
        "countTokens" => Kind::Count,
        _ => return None,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@".contains(&byte);
    // The name is looked up in a list and never sent on, so this only makes odd ones plain.
    (!model.is_empty() && model.bytes().all(plain))
        .then(|| Route::Call(Call { dialect: Dialect::Gemini, kind, model: Some(model.to_owned()) }))
}

impl Call {
    /// Where it goes at the provider, below the base URL.
    pub(super) fn path(&self, id: &str) -> String {
        let verb = match (self.dialect, self.kind) {
            (Dialect::OpenaiChat, _) => return "chat/completions".to_owned(),
            (Dialect::OpenaiResponses, Kind::Compact) => return "responses/compact".to_owned(),
            (Dialect::OpenaiResponses, _) => return "responses".to_owned(),
            (Dialect::AnthropicMessages, Kind::Count) => return "messages/count_tokens".to_owned(),
            (Dialect::AnthropicMessages, _) => return "messages".to_owned(),
            (Dialect::OpenaiImages, Kind::Edits) => return "images/edits".to_owned(),
            (Dialect::OpenaiImages, _) => return "images/generations".to_owned(),
            (Dialect::Gemini, Kind::Stream) => "streamGenerateContent",
            (Dialect::Gemini, Kind::Count) => "countTokens",
            (Dialect::Gemini, _) => "generateContent",
        };
        format!("models/{id}:{verb}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_paths_of_the_list_are_routes() {
        for (method, path) in [
            (Method::HEAD, "/"),
            (Method::GET, "/v1/models"),
            (Method::POST, "/v1/chat/completions"),
            (Method::POST, "/v1/responses"),
            (Method::POST, "/v1/responses/compact"),
            (Method::POST, "/v1/messages"),
            (Method::POST, "/v1/messages/count_tokens"),
            (Method::POST, "/v1/images/generations"),
            (Method::POST, "/v1/images/edits"),
            (Method::POST, "/v1beta/models/gemini-pro:generateContent"),
            (Method::POST, "/v1beta/models/google/gemini-pro:streamGenerateContent"),
            (Method::POST, "/v1beta/models/gemini-pro:countTokens"),
        ] {
            assert!(Route::of(&method, path).is_some(), "{method} {path}");
        }
        for (method, path) in [
            (Method::GET, "/"),
            (Method::POST, "/"),
            (Method::GET, "/v1/chat/completions"),
            (Method::PUT, "/v1/messages"),
            (Method::GET, "/v1/models/gpt-5"),
            (Method::DELETE, "/v1/models/ft:x"),
            (Method::POST, "/v1/files"),
            (Method::POST, "/v1/batches"),
            (Method::POST, "/v1/messages/batches"),
            (Method::POST, "/v1/embeddings"),
            (Method::POST, "//v1/messages"),
            (Method::POST, "/v1//messages"),
            (Method::POST, "/v1/messages/"),
            (Method::POST, "/v1/messages/../files"),
            (Method::POST, "/v1/messages/%2e%2e/files"),
            (Method::POST, "/v1/%6dessages"),
            (Method::POST, "/V1/messages"),
            (Method::POST, "/v1/messages;x"),
            (Method::POST, "/v1/responses/resp_1/cancel"),
            (Method::GET, "/v1/responses/resp_1"),
            (Method::POST, "/v1beta/models/gemini-pro:embedContent"),
            (Method::POST, "/v1beta/models/:generateContent"),
            (Method::POST, "/v1beta/models/x%2f..%2ffiles:generateContent"),
            (Method::POST, "/v1beta/models/gemini-pro"),
            (Method::POST, "/v1beta/tunedModels/x:generateContent"),
            (Method::POST, "/v1beta/cachedContents"),
        ] {
            assert_eq!(Route::of(&method, path), None, "{method} {path}");
        }
    }
}
