//! What came of a call, in words.

use ports::models::ToolResult;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

/// All of it as one text. A model is shown no pictures and sounds of a tool, and is told so.
pub(crate) fn result(done: CallToolResult) -> ToolResult {
    let mut parts: Vec<String> = done.content.into_iter().map(part).collect();
    if parts.is_empty() {
        // A server should say it in words as well, and need not.
        parts.extend(done.structured_content.map(|json| json.to_string()));
    }
    if parts.is_empty() {
        parts.push("(it said nothing)".to_owned());
    }
    ToolResult { text: parts.join("\n\n"), failed: done.is_error.unwrap_or(false) }
}

fn part(block: ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text,
        ContentBlock::Image(image) => format!("(a picture, {}, which cannot be shown here)", image.mime_type),
        ContentBlock::Audio(sound) => format!("(a sound, {}, which cannot be played here)", sound.mime_type),
        ContentBlock::ResourceLink(link) => format!("(see {}: {})", link.uri, link.name),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("{uri}:\n{text}"),
            ResourceContents::BlobResourceContents { uri, .. } => {
                format!("({uri}, which is not text and cannot be shown here)")
            }
            _ => "(something that cannot be shown here)".to_owned(),
        },
        _ => "(something that cannot be shown here)".to_owned(),
    }
}
