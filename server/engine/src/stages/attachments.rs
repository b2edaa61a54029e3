//! The files that go with a question: of the workspace as it is recorded, read by the server. A link is
//! not followed, and no directory that a program can write to is looked into.

use bytes::Bytes;
use domain::files::File;
use domain::name::Commit;
use domain::run::Failure;
use manifest::expression::Template;
use ports::picture::Picture;
use ports::source::View;
use serde_json::Value as Json;

use super::{At, Trouble};
use crate::report::size;

/// The most files that go with one question.
const MOST: usize = 10;
/// The largest of them, bytes.
const LARGEST: u64 = 5 << 20;
/// All of them together, bytes: no provider takes much more.
const TOGETHER: usize = 20 << 20;

/// What goes with a question.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// Texts, each with its path.
    pub(super) texts: Vec<(String, String)>,
    pub(super) pictures: Vec<Picture>,
}

/// Reads the files at a commit of the run.
pub(super) async fn read(templates: &[Template], commit: &Commit, at: &At<'_>) -> Result<Attached, Trouble> {
    let paths = paths(templates, at)?;
    let mut attached = Attached::default();
    let mut together = 0;
    for path in paths {
        let bytes = file(&path, commit, at).await?;
        together += bytes.len();
        if together > TOGETHER {
            let why = format!("the attachments are larger than {} together", size(TOGETHER as u64));
            return Err(Failure::new("attachment_too_large", why).into());
        }
        match content(Bytes::from(bytes)) {
            Some(Content::Picture(picture)) => attached.pictures.push(picture),
            Some(Content::Text(text)) => attached.texts.push((path, text)),
            None => {
                let why = format!(
                    "the attachment {} is neither text nor a picture (PNG, JPEG, GIF, WebP); let a script make one of these of it",
                    quoted(&path)
                );
                return Err(Failure::new("attachment_unsupported", why).into());
            }
        }
    }
    Ok(attached)
}

/// The paths that the templates name. One may name several: a list, as a stage hands it on.
fn paths(templates: &[Template], at: &At<'_>) -> Result<Vec<String>, Trouble> {
    let mut paths = Vec::new();
    for template in templates {
        let value = template.evaluate(at.context)?;
        match value.json {
            Json::Array(items) => {
                paths.extend(
                    items.into_iter().map(|item| item.as_str().map_or(item.to_string(), str::to_owned)),
                );
            }
            _ => paths.push(value.text()),
        }
    }
    if paths.len() > MOST {
        let why = format!("{} files are attached; a question takes {MOST}", paths.len());
        return Err(Failure::new("attachments_too_many", why).into());
    }
    Ok(paths.iter().map(|path| inside(path)).collect::<Result<_, _>>()?)
}

/// A path that stays inside the workspace, in its plain form.
fn inside(path: &str) -> Result<String, Failure> {
    let plain = path.strip_prefix("./").unwrap_or(path);
    let stays = plain.split('/').all(|part| !matches!(part, "" | "." | ".." | ".git"));
    if stays && !plain.contains(['\0', '\\']) {
        return Ok(plain.to_owned());
    }
    let why = format!("the attachment {} is not a path of a file inside the workspace", quoted(path));
    Err(Failure::new("attachment_invalid", why))
}

async fn file(path: &str, commit: &Commit, at: &At<'_>) -> Result<Vec<u8>, Failure> {
    let view = View::of(at.run.run.repository);
    let read = at.run.world.source.file(&view, commit, path, LARGEST).await;
    let missing = |what: &str| {
        let why = format!("the attachment {} {what}", quoted(path));
        Failure::new("attachment_missing", why)
    };
    match read {
        Ok(Some(File::Regular(bytes))) => Ok(bytes),
        Ok(Some(File::Large(bytes))) => {
            let why =
                format!("the attachment {} has {}; {} is the most", quoted(path), size(bytes), size(LARGEST));
            Err(Failure::new("attachment_too_large", why))
        }
        Ok(Some(File::Symlink)) => Err(missing("is a symbolic link; those are not followed")),
        Ok(Some(File::Submodule)) => Err(missing("is another repository")),
        Ok(None) => Err(missing("is no file of the workspace")),
        Err(error) => {
            let why = format!("the attachment {} cannot be read: {error}", quoted(path));
            Err(Failure::new("workspace_unavailable", why))
        }
    }
}

enum Content {
    Text(String),
    Picture(Picture),
}

fn content(bytes: Bytes) -> Option<Content> {
    if let Some(picture) = Picture::read(bytes.clone()) {
        return Some(Content::Picture(picture));
    }
    // A small one may be all ASCII, and is no text to read all the same.
    let is_text = !bytes.contains(&0) && !bytes.starts_with(b"%PDF-");
    let text = String::from_utf8(bytes.into()).ok().filter(|_| is_text)?;
    Some(Content::Text(text))
}

/// A path for people, whatever stands in it.
fn quoted(path: &str) -> String {
    let shown: String = path.chars().take(200).flat_map(char::escape_debug).collect();
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_inside() {
        for (path, expect) in [("a.md", "a.md"), ("./a/b.png", "a/b.png"), ("-x", "-x"), ("a/.b", "a/.b")] {
            assert_eq!(inside(path).unwrap(), expect);
        }
        for path in ["", "/etc/passwd", "..", "a/../../b", "a//b", "a/", "./", "a\0", "a\\b", ".git/config"] {
            assert_eq!(inside(path).unwrap_err().code, "attachment_invalid", "{path:?}");
        }
    }

    #[test]
    fn what_is_neither_text_nor_picture_is_told_apart() {
        let kind = |bytes: &'static [u8]| match content(Bytes::from_static(bytes)) {
            Some(Content::Text(_)) => "text",
            Some(Content::Picture(_)) => "picture",
            None => "neither",
        };
        assert_eq!(kind(b""), "text");
        assert_eq!(kind("Grüße".as_bytes()), "text");
        assert_eq!(kind(b"<svg></svg>"), "text");
        assert_eq!(kind(b"\xff\xd8\xff\xe0"), "picture");
        assert_eq!(kind(b"%PDF-1.4\nhello"), "neither");
        assert_eq!(kind(b"a\0b"), "neither");
        assert_eq!(kind(b"\xc3\x28"), "neither");
    }
}
