//! `image`: a picture by an image model, from words and from pictures of the workspace. It becomes a file
//! of the workspace, which is the stage's commit; the stage's value is its path.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use domain::stage::{StagePath, StageUsage};
use domain::value::{Taint, Value};
use manifest::model::PromptStage;
use ports::models::{Drawing, Drawn, ModelError};
use ports::picture::Picture;
use serde_json::Value as Json;

use super::ask::{choice, usage};
use super::jail::{self, Audience, Plan};
use super::{At, Made, Trouble, prompt};
use crate::report::size;
use crate::workspace::Desk;

/// Writes what it reads into a file of its own: a link that stands in its place is replaced, and a link in
/// the place of its directory is not followed.
const PUT: &str = r#"
directory=$(dirname -- "$1")
if [ -L "$directory" ]; then echo "$directory is a symbolic link; pictures are put into a directory" >&2; exit 1; fi
mkdir -p -- "$directory" && rm -f -- "$1" && cat > "$1"
"#;

/// Has the picture made, and hands on its path; of several, the list of their paths.
pub(super) async fn run(stage: &PromptStage, at: &At<'_>) -> Made {
    let asked = match prompt::asked(stage, at).await {
        Ok(asked) => asked,
        Err(trouble) => return trouble.into(),
    };
    // Before anything is paid for it: a place for the picture.
    let desk = match jail::take(at).await {
        Ok(desk) => desk,
        Err(failure) => return Made::failed(failure),
    };
    let drawing = Drawing {
        choice: choice(&stage.agent, at),
        prompt: asked.prompt,
        from: asked.pictures,
        till: at.run.till.of(at.path),
    };
    match at.run.world.models.draw(drawing, at.cancel.clone()).await {
        Ok(drawn) => hang(drawn, desk, at).await,
        Err(ModelError { failure, calls, ranking, retry }) => {
            at.run.workspace.discard(desk).await;
            Made::from(Trouble { failure, timed_out: false, retry })
                .using(usage(calls, ranking.map(|ranking| *ranking)))
        }
    }
}

/// Puts the pictures into the workspace and commits them.
async fn hang(drawn: Drawn, desk: Desk, at: &At<'_>) -> Made {
    let mut usage = usage(drawn.calls, Some(drawn.ranking));
    let mut paths = Vec::new();
    for (number, picture) in (1..).zip(&drawn.pictures) {
        let path = path(at.path, number, picture);
        match put(&path, picture, &desk, at).await {
            Ok(used) => usage.add(used),
            Err(trouble) => {
                at.run.workspace.discard(desk).await;
                return Made::from(trouble).using(usage);
            }
        }
        at.note(format!("{path}: {}, by {}", size(picture.bytes().len() as u64), drawn.target));
        paths.push(path);
    }
    let (work, unkept) = jail::keep(desk, &usage, &[], at).await;
    let json = match &paths[..] {
        [one] => Json::from(one.as_str()),
        several => several.iter().map(String::as_str).collect(),
    };
    let (result, trouble) = match unkept {
        // A model chose what is in the file, and not what it is called.
        None => (Some(Value { json, taint: Taint::External }), None),
        Some(failure) => (None, Some(failure.into())),
    };
    Made { result, trouble, usage, work, changed: None, said: None }
}

/// Where a picture goes: by the name of its stage, so that each has a place of its own.
fn path(stage: &StagePath, number: usize, picture: &Picture) -> String {
    let mut name = String::new();
    for c in stage.as_str().chars() {
        match c {
            _ if c.is_alphanumeric() || c == '_' => name.push(c),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name = match name.trim_end_matches('-') {
        "" => "picture",
        name => name,
    };
    let further = if number == 1 { String::new() } else { format!("-{number}") };
    format!("images/{name}{further}.{}", picture.kind().extension())
}

/// Writes a picture in a jail: what else is at the desk could have been put there by anyone.
async fn put(path: &str, picture: &Picture, desk: &Desk, at: &At<'_>) -> Result<StageUsage, Trouble> {
    let plan = Plan {
        command: ["sh", "-c", PUT, "sh", path].map(str::to_owned).to_vec(),
        stdin: Bytes::clone(picture.bytes()).into(),
        env: BTreeMap::from([("LC_ALL".to_owned(), "C.UTF-8".to_owned())]),
        directory: PathBuf::from("."),
        runtime: None,
        visit: None,
        audience: Audience::Log,
    };
    let done = jail::run_at(desk, plan, at, at.cancel.clone()).await?;
    match done.trouble(at) {
        None => Ok(done.usage),
        Some(mut trouble) => {
            let why = format!("the picture cannot be put into {path}: {}", trouble.failure.message);
            trouble.failure.message = why;
            Err(trouble)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_a_place_of_its_own() {
        let picture = Picture::read(Bytes::from_static(b"\xff\xd8\xff\xe0")).unwrap();
        let each = StagePath::root("Each").item(3, "Label it!");
        for (stage, number, expect) in [
            (StagePath::root("Draw"), 1, "images/Draw.jpg"),
            (StagePath::root("../../etc/x"), 1, "images/etc-x.jpg"),
            (StagePath::root("Grüße 2"), 2, "images/Grüße-2-2.jpg"),
            (each, 1, "images/Each-3-Label-it.jpg"),
            (StagePath::root("!"), 1, "images/picture.jpg"),
        ] {
            assert_eq!(path(&stage, number, &picture), expect);
        }
    }
}
