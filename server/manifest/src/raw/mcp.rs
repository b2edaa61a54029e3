//! `mcp_servers:`: whose tools models may call besides our own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;

use crate::model;
use crate::raw::scalar::{Line, Named, OneOrMany, Templated, Time, text};
use crate::read::{Place, Read, Reader, Slot, object};
use crate::yaml::Node;

object! {
    /// A server of the Model Context Protocol: a program, which runs in the sandbox of the stage that uses it, or
    /// an address, which the server calls.
    #[schemars(transform = one_of_two)]
    struct McpServer {
        /// The program.
        #[schemars(example = json!("node"))]
        command: Line,
        /// Its arguments, as they are.
        #[schemars(example = json!(["tools/server.mjs", "--quiet"]))]
        args: Vec<Slot<Line>>,
        /// Variables of the program. No secrets: they never enter a sandbox.
        #[schemars(example = json!({ "ROOT": "/work" }))]
        env: Named<Templated>,
        /// Which toolchain the program sees.
        #[schemars(example = json!("node"))]
        runtime: Line,
        /// The address, among the hosts of `permissions.network.allowed`.
        #[schemars(example = json!("https://mcp.example.org/mcp"))]
        url: Line,
        /// Headers of every call of the address. Secrets can stand here.
        #[schemars(example = json!({ "Authorization": "Bearer ${secrets.EXAMPLE_TOKEN}" }))]
        headers: Named<Templated>,
        /// Which of its tools may be called, as globs. Without it: all of them.
        #[schemars(example = json!(["read_*", "search"]))]
        allowed: OneOrMany<Line>,
        /// How long it may take to start, and to answer a call. Without it: 1m.
        #[schemars(example = json!("30s"))]
        timeout: Time,
    }
}

/// Either is there, with its own keys.
fn one_of_two(schema: &mut Schema) {
    let without = |keys: &[&str]| json!({ "not": { "anyOf": keys.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>() } });
    let program = json!({ "required": ["command"], "allOf": [without(&["url", "headers"])] });
    let address = json!({ "required": ["url"], "allOf": [without(&["command", "args", "env", "runtime"])] });
    schema.insert("oneOf".to_owned(), json!([program, address]));
}

/// What a model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tool {
    /// One of ours.
    Own(model::Tool),
    /// Of this server those that this glob selects.
    Of(String, String),
    /// A word that is none of ours.
    Other(String),
}

impl Read for Tool {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let text = text(node, place, reader)?;
        let own = model::Tool::ALL.into_iter().find(|tool| tool.as_str() == text);
        Some(match (own, text.split_once('/')) {
            (Some(tool), _) => Self::Own(tool),
            (None, Some((server, tool))) => Self::Of(server.to_owned(), tool.to_owned()),
            (None, None) => Self::Other(text.to_owned()),
        })
    }
}

impl JsonSchema for Tool {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Tool".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let own = model::Tool::ALL.map(model::Tool::as_str);
        json_schema!({ "anyOf": [{ "type": "string", "enum": own }, { "type": "string", "pattern": "^[A-Za-z0-9_-]{1,32}/.+$" }] })
    }
}
