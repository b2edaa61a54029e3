//! Tools that run at the provider. They reach the web from there, or cost what nobody metered, so each
//! must be granted by name; tools that the program itself runs pass.

use super::body::{Fields, items, plain, string};
use crate::config::Dialect;

/// Fields beside `tools` that bring a tool with them, by their plain names.
const FIELDS: [(&str, &str); 12] = [
    ("websearchoptions", "web_search"),
    ("searchparameters", "web_search"),
    ("searchsettings", "web_search"),
    ("enablesearch", "web_search"),
    ("plugins", "plugins"),
    ("connectors", "connectors"),
    ("compoundcustom", "compound"),
    ("extrabody", "extra_body"),
    ("mcpservers", "mcp"),
    ("container", "code_execution"),
    ("cachedcontent", "cached_content"),
    ("prompt", "stored_prompt"),
];

/// The tools at the provider that a question asks for, by the names under which they are granted.
///
/// # Errors
/// When a tool could be read in two ways.
pub(super) fn at_the_provider(dialect: Dialect, body: &Fields<'_>) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for (name, value) in body.all() {
        let brings = FIELDS.iter().find(|(field, _)| *field == name).map(|(_, tool)| *tool);
        // Pictures are made of a `prompt` that is their text.
        let brings = brings.filter(|tool| *tool != "stored_prompt" || dialect == Dialect::OpenaiResponses);
        match brings {
            Some(tool) if body.says(name) => found.push(tool.to_owned()),
            _ => {}
        }
        if name == "tools" {
            list(dialect, value, &mut found)?;
        }
        // Tools that were looked up by another tool come back as items of the input.
        if name == "input" && dialect == Dialect::OpenaiResponses {
            for item in items(value).into_iter().filter(|item| item.starts_with('{')) {
                if let Some(tools) = Fields::read(item)?.get("tools") {
                    list(dialect, tools, &mut found)?;
                }
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn list(dialect: Dialect, tools: &str, found: &mut Vec<String>) -> Result<(), String> {
    if !matches!(tools.as_bytes().first(), Some(b'[' | b'n')) {
        return Err("`tools` is no list".to_owned());
    }
    for tool in items(tools) {
        let fields = Fields::read(tool).map_err(|why| format!("a tool: {why}"))?;
        match dialect {
            Dialect::Gemini => found.extend(gemini(&fields)),
            _ => {
                let kind = match fields.get("type") {
                    Some(text) => string(text).ok_or("a tool's `type` is no string")?,
                    None => String::new(),
                };
                if let Some(inner) = fields.get("tools").filter(|_| kind == "namespace") {
                    list(dialect, inner, found)?;
                } else if !is_the_programs_own(dialect, &kind, &fields)? {
                    found.push(granted_as(&kind));
                }
            }
        }
    }
    Ok(())
}

/// Whether the program runs it itself.
fn is_the_programs_own(dialect: Dialect, kind: &str, tool: &Fields<'_>) -> Result<bool, String> {
    Ok(match (dialect, granted_as(kind).as_str()) {
        (Dialect::OpenaiChat, "function" | "custom") => true,
        (Dialect::OpenaiResponses, "function" | "custom" | "local_shell" | "apply_patch" | "tool_search") => {
            true
        }
        (Dialect::OpenaiResponses, "shell") => match tool.get("environment") {
            Some(place) => Fields::read(place)?.text("type").as_deref() == Some("local"),
            None => false,
        },
        (Dialect::AnthropicMessages, "" | "custom" | "bash" | "text_editor" | "memory") => true,
        (Dialect::AnthropicMessages, "tool_search_tool_regex" | "tool_search_tool_bm25") => true,
        _ => false,
    })
}

/// The type of a tool without its date: `web_search_20260209` is `web_search`.
fn granted_as(kind: &str) -> String {
    let is_date = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
    let mut name = kind;
    while let Some((begin, end)) = name.rsplit_once('_')
        && (is_date(end) || end == "preview")
    {
        name = begin;
    }
    name.to_owned()
}

/// A tool of Gemini is a field of an object; `functionDeclarations` are the program's own.
fn gemini(tool: &Fields<'_>) -> Vec<String> {
    let own = plain("functionDeclarations");
    let others = tool.all().filter(|(name, value)| *name != own && *value != "null");
    others.map(|(name, _)| known_as(name)).collect()
}

/// The name under which a tool of Gemini is granted, from its plain name.
fn known_as(name: &str) -> String {
    let all = [
        ("googlesearch", "google_search"),
        ("googlesearchretrieval", "google_search"),
        ("enterprisewebsearch", "google_search"),
        ("codeexecution", "code_execution"),
        ("urlcontext", "url_context"),
        ("computeruse", "computer_use"),
        ("filesearch", "file_search"),
        ("googlemaps", "google_maps"),
        ("mcpservers", "mcp"),
    ];
    let known = all.into_iter().find(|(plain, _)| *plain == name);
    known.map_or_else(|| name.chars().take(40).collect(), |(_, tool)| tool.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dialect::{AnthropicMessages as Messages, Gemini, OpenaiChat as Chat, OpenaiResponses as Responses};

    #[track_caller]
    fn check(dialect: Dialect, body: &str, expect: &[&str]) {
        let fields = Fields::read(body).unwrap();
        assert_eq!(at_the_provider(dialect, &fields).unwrap(), expect, "{body}");
    }

    #[test]
    fn the_programs_own_tools_pass() {
        check(
            Chat,
            r#"{"tools":[{"type":"function","function":{"name":"web_search"}},{"type":"custom"}]}"#,
            &[],
        );
        check(Chat, r#"{"tools":null,"web_search_options":null}"#, &[]);
        check(
            Responses,
            r#"{"tools":[{"type":"function"},{"type":"local_shell"},{"type":"apply_patch"}]}"#,
            &[],
        );
        check(Responses, r#"{"tools":[{"type":"shell","environment":{"type":"local"}}]}"#, &[]);
        check(Responses, r#"{"tools":[{"type":"namespace","tools":[{"type":"function"}]}]}"#, &[]);
        check(
            Messages,
            r#"{"tools":[{"name":"x","input_schema":{}},{"type":"bash_20250124","name":"bash"}]}"#,
            &[],
        );
        check(Messages, r#"{"tools":[{"type":"text_editor_20250728"},{"type":"memory_20250818"}]}"#, &[]);
        check(Gemini, r#"{"tools":[{"functionDeclarations":[]},{"function_declarations":[]}]}"#, &[]);
        check(Dialect::OpenaiImages, r#"{"prompt":"a cat"}"#, &[]);
    }

    #[test]
    fn tools_at_the_provider_are_named() {
        check(Chat, r#"{"tools":[{"type":"web_search"}]}"#, &["web_search"]);
        check(Chat, r#"{"tools":[{"type":"Function"}]}"#, &["Function"]);
        check(Chat, r#"{"web_search_options":{"search_context_size":"low"}}"#, &["web_search"]);
        check(Chat, r#"{"Web_Search_Options":{"a":1}}"#, &["web_search"]);
        check(
            Chat,
            r#"{"search_parameters":{"mode":"on"},"plugins":[{"id":"web"}]}"#,
            &["plugins", "web_search"],
        );
        for (kind, name) in [
            ("web_search", "web_search"),
            ("web_search_preview", "web_search"),
            ("web_search_preview_2025_03_11", "web_search"),
            ("web_search_2025_08_26", "web_search"),
            ("code_interpreter", "code_interpreter"),
            ("file_search", "file_search"),
            ("mcp", "mcp"),
            ("computer_use_preview", "computer_use"),
            ("image_generation", "image_generation"),
            ("shell", "shell"),
        ] {
            check(Responses, &format!(r#"{{"tools":[{{"type":"{kind}"}}]}}"#), &[name]);
            check(
                Responses,
                &format!(r#"{{"tools":[{{"type":"namespace","tools":[{{"type":"{kind}"}}]}}]}}"#),
                &[name],
            );
        }
        check(
            Responses,
            r#"{"tools":[{"type":"shell","environment":{"type":"container_auto"}}]}"#,
            &["shell"],
        );
        check(Responses, r#"{"input":[{"type":"tool_search_output","tools":[{"type":"mcp"}]}]}"#, &["mcp"]);
        check(Responses, r#"{"prompt":{"id":"pmpt_1"}}"#, &["stored_prompt"]);
        for (kind, name) in [
            ("web_search_20260209", "web_search"),
            ("web_fetch_20250910", "web_fetch"),
            ("code_execution_20250825", "code_execution"),
            ("computer_20251124", "computer"),
            ("mcp_toolset", "mcp_toolset"),
            ("advisor_20260301", "advisor"),
        ] {
            check(Messages, &format!(r#"{{"tools":[{{"type":"{kind}"}}]}}"#), &[name]);
        }
        check(
            Messages,
            r#"{"mcp_servers":[{"url":"https://x"}],"container":{"skills":[1]}}"#,
            &["code_execution", "mcp"],
        );
        check(
            Gemini,
            r#"{"tools":[{"google_search":{}},{"codeExecution":{}},{"urlContext":{}}]}"#,
            &["code_execution", "google_search", "url_context"],
        );
        check(
            Gemini,
            r#"{"cachedContent":"cachedContents/1","tools":[{"newThing":{}}]}"#,
            &["cached_content", "newthing"],
        );
    }

    #[test]
    fn a_tool_that_can_be_read_in_two_ways_is_refused() {
        for body in [
            r#"{"tools":[{"type":"function","type":"web_search"}]}"#,
            r#"{"tools":[{"type":"function","Type":"web_search"}]}"#,
            r#"{"tools":{"type":"web_search"}}"#,
            r#"{"tools":[{"type":["web_search"]}]}"#,
            r#"{"tools":["web_search"]}"#,
        ] {
            assert!(at_the_provider(Chat, &Fields::read(body).unwrap()).is_err(), "{body}");
        }
    }
}
