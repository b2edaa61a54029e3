//! Changed files: offered as a pull request, or pushed to the branch of the one that the run is about.

use domain::effect::EffectKind;
use domain::name::{Branch, Commit};
use domain::run::Standing;
use manifest::discover::Layout;
use manifest::protected::Protected;
use ports::source::{CommitSpec, PathChange, SourceError, View};

use super::{LONGEST_TITLE, Unwanted, Wish, one_line};
use crate::execution::Execution;
use crate::{report, survey};

impl Wish<'_> {
    pub(super) async fn pull_request(&self) -> Result<(String, EffectKind), Unwanted> {
        let run = self.execution.run;
        let tip = self.changed().await?;
        let base = self.base()?;
        let prefix = self.line("title_prefix")?.unwrap_or_default();
        let title =
            self.line("title")?.unwrap_or_else(|| format!("Changes by {}", self.execution.manifest.name));
        let title = one_line(&format!("{prefix} {title}"), LONGEST_TITLE);
        let commit = self.commit(&tip, &title).await?;
        let name = self.key()?.unwrap_or_else(|| self.subject(&base));
        let branch = Branch::parse(format!("spellbook/{}/{name}", run.daemon))?;
        let kind = EffectKind::CreatePullRequest {
            title,
            body: self.prose("body")?.unwrap_or_default(),
            base,
            branch,
            commit,
            draft: self.flag("draft")?,
            labels: self.list("labels")?,
            reviewers: self.list("reviewers")?,
        };
        Ok((format!("{}/{}/{name}", run.daemon, self.outcome.kind.as_str()), kind))
    }

    pub(super) async fn push_to_branch(&self) -> Result<(String, EffectKind), Unwanted> {
        let Some(subject) = &self.execution.run.subject else {
            return Err(Unwanted::Refused("the run is about no pull request".to_owned()));
        };
        let tip = self.changed().await?;
        let commit = self.commit(&tip, &format!("Changes by {}", self.execution.manifest.name)).await?;
        let kind = EffectKind::PushToPullRequestBranch {
            number: subject.number,
            branch: subject.branch.clone(),
            from: subject.commit.clone(),
            commit,
        };
        Ok((self.run_key(), kind))
    }

    /// The branch to be changed: `base`, else that of the pull request that the run works on, so that what is
    /// offered is what the run did and nothing else, else the daemon's.
    fn base(&self) -> Result<Branch, Unwanted> {
        if let Some(text) = self.text("base")? {
            return Ok(text.parse()?);
        }
        let run = self.execution.run;
        let ours = run.subject.as_ref().filter(|subject| subject.standing == Standing::Member);
        Ok(ours.map_or(&run.branch, |subject| &subject.branch).clone())
    }

    /// What a change is about, as a part of a branch's name: the number of the thread, else the branch.
    fn subject(&self, base: &Branch) -> String {
        self.thread().map_or_else(|| base.to_string(), |number| number.to_string())
    }

    /// The last snapshot, when it differs from the first in files that a daemon may change.
    async fn changed(&self) -> Result<Commit, Unwanted> {
        let tip = self.execution.workspace.tip().await;
        let changes = self.changes(&tip).await?;
        if changes.is_empty() {
            return Err(Unwanted::Nothing(
                "the run changed no file, so there is nothing to propose".to_owned(),
            ));
        }
        self.check_protected(&changes).await?;
        Ok(tip)
    }

    /// One commit with everything that the run changed.
    async fn commit(&self, tip: &Commit, title: &str) -> Result<Commit, Unwanted> {
        let Execution { world, run, workspace, .. } = self.execution;
        let subject = self.line("message")?.unwrap_or_else(|| title.to_owned());
        let message = report::proposal_commit(&subject, run);
        let commit = CommitSpec {
            repository: run.repository,
            parent: workspace.start(),
            tree_of: tip,
            message: &message,
            at: run.created_at,
        };
        world.source.commit(commit).await.map_err(|error| Unwanted::Refused(error.to_string()))
    }

    async fn changes(&self, tip: &Commit) -> Result<Vec<PathChange>, Unwanted> {
        let Execution { world, run, workspace, .. } = self.execution;
        let changes = world.source.changes(&View::of(run.repository), Some(workspace.start()), tip).await;
        changes.map_err(|error| Unwanted::Refused(error.to_string()))
    }

    async fn check_protected(&self, changes: &[PathChange]) -> Result<(), Unwanted> {
        if self.text("protected_files")?.as_deref() == Some("allowed") {
            return Ok(());
        }
        let layout = self.layout().await.map_err(|error| Unwanted::Refused(error.to_string()))?;
        let protected = Protected::of(&layout);
        let found = changes.iter().find_map(|change| Some((&change.path, protected.kind(&change.path)?)));
        let Some((path, kind)) = found else { return Ok(()) };
        Err(Unwanted::Refused(format!(
            "`{path}` is {kind}, and a daemon may change it only where the outcome says `protected_files: allowed`"
        )))
    }

    /// Where the repository has its daemons, as the run found it: not as the run left it.
    async fn layout(&self) -> Result<Layout, SourceError> {
        let Execution { world, run, workspace, .. } = self.execution;
        let view = View::of(run.repository);
        // The name is that of a daemon in the root, whose manifest is protected under any name.
        survey::layout(world, "", &view, workspace.start()).await
    }
}
