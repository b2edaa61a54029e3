//! Artifacts: files of a run's workspace that are kept for people. What is kept is copied into the object storage
//! when the effect is performed, so that it is there whatever becomes of the run's branch.

use bytes::Bytes;
use domain::effect::{ArtifactFile, Effect, EffectKind, EffectStatus, Receipt};
use domain::files::File;
use domain::id::{EffectId, RunId};
use domain::time::Timestamp;
use ports::forge::ForgeError;
use ports::source::{SourceError, View};
use ports::store::StoreError;

use crate::refusal::{Refusal, RefusalKind};
use crate::report::size;
use crate::world::World;

/// The most files of one artifact.
pub const MOST: usize = 1_000;
/// The largest of them, bytes.
pub const LARGEST: u64 = 32 << 20;
/// All of them together, bytes.
pub const TOGETHER: u64 = 256 << 20;

/// Files that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The effect that keeps them.
    pub id: EffectId,
    /// What the daemon calls them.
    pub name: String,
    /// Which.
    pub files: Vec<ArtifactFile>,
    /// Until when; as long as the run, when it is not said.
    pub until: Option<Timestamp>,
}

/// The artifacts of a run that are there, in the order of its outcomes.
///
/// # Errors
/// When the store does not answer.
pub async fn list(world: &World, run: RunId) -> Result<Vec<Artifact>, StoreError> {
    let now = world.clock.now();
    let effects = world.store.effect_list(run).await?;
    Ok(effects.into_iter().filter_map(|effect| kept(effect, now)).collect())
}

/// A file of an artifact, whole.
///
/// # Errors
/// `artifact_not_found` when it is not there, or not any more.
pub async fn read(world: &World, run: RunId, id: EffectId, path: &str) -> Result<Bytes, Refusal> {
    let absent = || {
        let path: String = path.chars().filter(|c| !c.is_control()).take(200).collect();
        Refusal::not_found("artifact_not_found", format!("the run keeps no file `{path}` under {id}"))
    };
    let artifact = list(world, run).await?.into_iter().find(|artifact| artifact.id == id);
    let artifact = artifact.ok_or_else(absent)?;
    let place = artifact.files.iter().position(|file| file.path == path).ok_or_else(absent)?;
    let key = key(run, id, place);
    let bytes = world.objects.get(&key, 0, artifact.files[place].bytes).await.map_err(|error| Refusal {
        kind: RefusalKind::Unavailable,
        code: "objects_unavailable",
        message: error.to_string(),
    })?;
    bytes.ok_or_else(absent)
}

/// Keeps the files. Done again after a crash it does no harm.
pub(crate) async fn keep(world: &World, effect: &Effect) -> Result<Receipt, ForgeError> {
    let (EffectKind::UploadArtifact { name, commit, files, .. }, Some(run)) =
        (&effect.kind, effect.author.run())
    else {
        return Err(ForgeError::refused("it is no artifact of a run"));
    };
    let view = View::of(effect.repository);
    for (place, ArtifactFile { path, .. }) in files.iter().enumerate() {
        let file = world.source.file(&view, commit, path, LARGEST).await.map_err(|error| unread(&error))?;
        let Some(File::Regular(bytes)) = file else {
            return Err(ForgeError::refused(format!("`{path}` is not in the workspace any more")));
        };
        let stored = world.objects.put(&key(run, effect.id, place), bytes.into()).await;
        stored.map_err(|error| ForgeError::later(error.to_string()))?;
    }
    let files_word = if files.len() == 1 { "1 file".to_owned() } else { format!("{} files", files.len()) };
    let together = size(files.iter().map(|file| file.bytes).sum());
    let url = format!("/api/v1/runs/{run}/artifacts");
    Ok(Receipt::new(Some(url), format!("kept {files_word} as {name}, {together}")))
}

/// What an effect keeps, when it is done and its time is not over.
fn kept(effect: Effect, now: Timestamp) -> Option<Artifact> {
    let EffectKind::UploadArtifact { name, files, until, .. } = effect.kind else { return None };
    let is_there =
        matches!(effect.status, EffectStatus::Done { .. }) && until.is_none_or(|until| now < until);
    is_there.then_some(Artifact { id: effect.id, name, files, until })
}

fn key(run: RunId, effect: EffectId, place: usize) -> String {
    format!("artifacts/{run}/{effect}/{place}")
}

fn unread(error: &SourceError) -> ForgeError {
    match error {
        SourceError::Unreachable(_) | SourceError::Broken(_) => ForgeError::later(error.to_string()),
        SourceError::NotFound(_) | SourceError::Refused(_) | SourceError::Unauthorized(_) => {
            ForgeError::refused(error.to_string())
        }
    }
}
