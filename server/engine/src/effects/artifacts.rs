//! Files that a run leaves: of the workspace as it is recorded, so that nothing outside of it can be named, and no
//! link is followed.

use domain::effect::{ArtifactFile, EffectKind};
use domain::files::File;
use domain::name::Commit;
use domain::trigger::globs_select;
use ports::source::{SourceError, View};

use super::{Unwanted, Wish};
use crate::artifacts::{LARGEST, MOST, TOGETHER};
use crate::report::size;

impl Wish<'_> {
    pub(super) async fn artifact(&self) -> Result<(String, EffectKind), Unwanted> {
        let name = self.line("name")?.unwrap_or_else(|| self.execution.run.daemon.to_string());
        let globs = self.list("path")?;
        let commit = self.execution.workspace.tip().await;
        let paths = self.matching(&globs, &commit).await?;
        let mut files = Vec::new();
        for path in paths {
            files.extend(self.file(path, &commit).await?);
        }
        if files.is_empty() {
            return Err(Unwanted::Nothing(format!(
                "no file of the workspace is called {}",
                globs.join(", ")
            )));
        }
        let together = files.iter().map(|file| file.bytes).sum();
        if together > TOGETHER {
            let (found, most) = (size(together), size(TOGETHER));
            return Err(Unwanted::Refused(format!(
                "the files have {found} together; at most {most} are kept"
            )));
        }
        let kind = EffectKind::UploadArtifact { name, commit, files, until: self.until()? };
        Ok((self.run_key(), kind))
    }

    /// The paths that the globs select; the name of a directory means all that is in it.
    async fn matching(&self, globs: &[String], commit: &Commit) -> Result<Vec<String>, Unwanted> {
        let mut all = Vec::new();
        for glob in globs {
            let glob = glob.trim_end_matches('/');
            all.extend([glob.to_owned(), format!("{glob}/**")]);
        }
        let view = View::of(self.execution.run.repository);
        let files = self.execution.world.source.changes(&view, None, commit).await.map_err(unread)?;
        let paths: Vec<String> =
            files.into_iter().map(|file| file.path).filter(|path| globs_select(&all, path)).collect();
        if paths.len() > MOST {
            let found = paths.len();
            return Err(Unwanted::Refused(format!("{found} files are meant; at most {MOST} are kept")));
        }
        Ok(paths)
    }

    /// A file that may leave; nothing for a link, which is none.
    async fn file(&self, path: String, commit: &Commit) -> Result<Option<ArtifactFile>, Unwanted> {
        let view = View::of(self.execution.run.repository);
        let file = self.execution.world.source.file(&view, commit, &path, LARGEST).await;
        match file.map_err(unread)? {
            Some(File::Regular(bytes)) => {
                self.outbound.check(&path, &String::from_utf8_lossy(&bytes))?;
                Ok(Some(ArtifactFile { path, bytes: bytes.len() as u64 }))
            }
            Some(File::Large(_)) => {
                let most = size(LARGEST);
                Err(Unwanted::Refused(format!(
                    "`{path}` is larger than {most}, which is the most that is kept"
                )))
            }
            Some(File::Symlink | File::Submodule) | None => Ok(None),
        }
    }

    /// Until when they are kept: as long as the run, unless `retention_days` says less.
    fn until(&self) -> Result<Option<domain::time::Timestamp>, Unwanted> {
        const DAY: u64 = 24 * 3_600;
        let Some(days) = self.value("retention_days")?.filter(|days| !days.is_null()) else {
            return Ok(None);
        };
        let days = days.as_u64().filter(|days| (1..=3_650).contains(days));
        let days = days.ok_or_else(|| {
            Unwanted::Refused("`retention_days` must be a whole number from 1 to 3650".to_owned())
        })?;
        let kept = std::time::Duration::from_secs(days * DAY);
        Ok(Some(self.execution.world.clock.now().after(kept)))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn unread(error: SourceError) -> Unwanted {
    Unwanted::Refused(format!("the workspace cannot be read: {error}"))
}
