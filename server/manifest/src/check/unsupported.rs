//! What a manifest may say and this version cannot run yet.

use super::Check;
use crate::codes;
use crate::diagnostic::Problem;
use crate::model::{Manifest, Stage, StageKind};
use crate::raw::stage as raw;
use crate::read::Place;

/// The stages that this version cannot run, inner ones too, by name and why. A run with one of them is to
/// be refused before it begins.
pub fn unsupported_stages(manifest: &Manifest) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&manifest.stages, &mut found);
    collect(&manifest.on_failure, &mut found);
    found
}

fn collect(stages: &[Stage], found: &mut Vec<(String, String)>) {
    for stage in stages {
        found.extend(not_yet(&stage.kind).map(|why| (stage.name.clone(), why)));
        if let StageKind::Foreach(foreach) = &stage.kind {
            collect(&foreach.stages, found);
        }
    }
}

impl Check<'_> {
    /// Warns of a stage that this version cannot run.
    pub(super) fn not_yet(&mut self, raw: &raw::Stage, kind: &StageKind, place: Place) {
        let Some(what) = not_yet(kind) else { return };
        let problem = Problem::warning(&codes::NOT_YET, format!("this version cannot run {what} yet"));
        self.reader.report(problem, raw.r#type.place().unwrap_or(place));
    }
}

/// What of a stage this version cannot run.
fn not_yet(kind: &StageKind) -> Option<String> {
    match kind {
        StageKind::Approval(_) => Some(format!("`{}` stages", kind.as_str())),
        StageKind::Foreach(stage) if stage.parallel => Some("`parallel` stages".to_owned()),
        StageKind::Agent(_)
        | StageKind::Image(_)
        | StageKind::Prompt(_)
        | StageKind::Script(_)
        | StageKind::Hybrid(_)
        | StageKind::Http(_)
        | StageKind::Rules(_)
        | StageKind::Daemon(_)
        | StageKind::Foreach(_) => None,
    }
}
