//! Repositories and their branches; what belongs to daemons is in `revisions.rs`.

use async_trait::async_trait;
use domain::event::EventKind;
use domain::id::{RepositoryId, RevisionId};
use domain::name::{Branch, Commit, DaemonId, RepositoryPath};
use domain::repository::{BranchHead, Origin, Place, Repository, Sync};
use domain::revision::{Pause, Revision};
use domain::time::Timestamp;
use ports::store::repositories::{Advanced, BranchAdvance, DaemonFilter, DaemonRow};
use ports::store::{Page, Recorded, Repositories, StoreError, Topic};
use sqlx::sqlite::SqliteConnection;

use crate::failure::{failed, missing};
use crate::rows::{self, each, json, word};
use crate::store::Durable;
use crate::{SqliteStore, events, revisions};

/// A look came to an end. `poll_at` is when a watched repository is next looked at.
const SYNCED: &str = "UPDATE repositories
    SET sync_status = $2, sync_message = $3, checked_at = $4, failures = $6,
        due_at = IIF(due_at > $4 AND due_at < $5, due_at, $5),
        poll_at = CASE WHEN origin ->> 'kind' = 'hosted' THEN NULL
                       WHEN $5 IS NULL AND $4 IS NULL THEN created_at
                       ELSE IIF(due_at > $4 AND due_at < $5, due_at, $5) END
    WHERE id = $1";

const HINT: &str = "UPDATE repositories
    SET due_at = MIN(COALESCE(due_at, $2), $2),
        poll_at = CASE WHEN origin ->> 'kind' = 'hosted' THEN NULL ELSE MIN(COALESCE(poll_at, $2), $2) END
    WHERE id = $1";

#[async_trait]
impl Repositories for SqliteStore {
    async fn repository_create(&self, repository: &Repository) -> Result<Recorded<Repository>, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        if let Some(known) = find(&mut transaction, &repository.path).await? {
            return Ok(Recorded::Known(known));
        }
        insert(&mut transaction, repository).await?;
        self.commit(transaction, &[]).await?;
        Ok(Recorded::New)
    }

    async fn repository_get(&self, id: RepositoryId) -> Result<Option<Repository>, StoreError> {
        let row = sqlx::query("SELECT * FROM repositories WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(self.reader())
            .await
            .map_err(failed)?;
        row.as_ref().map(rows::repository).transpose()
    }

    async fn repository_find(&self, path: &RepositoryPath) -> Result<Option<Repository>, StoreError> {
        let mut connection = self.reader().acquire().await.map_err(failed)?;
        find(&mut connection, path).await
    }

    async fn repository_at(&self, place: &Place) -> Result<Option<Repository>, StoreError> {
        let row = sqlx::query("SELECT * FROM repositories WHERE place = $1")
            .bind(place.key())
            .fetch_optional(self.reader())
            .await
            .map_err(failed)?;
        row.as_ref().map(rows::repository).transpose()
    }

    async fn repository_origin(&self, id: RepositoryId, origin: &Origin) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE repositories SET origin = $2, place = $3 WHERE id = $1")
            .bind(id.to_string())
            .bind(json(origin)?)
            .bind(origin.place().map(Place::key))
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        if done.rows_affected() == 0 { Err(missing(id)) } else { Ok(()) }
    }

    async fn repository_list(&self, page: &Page) -> Result<Vec<Repository>, StoreError> {
        let rows = sqlx::query("SELECT * FROM repositories WHERE id < $1 ORDER BY id DESC LIMIT $2")
            .bind(before(RepositoryId::PREFIX, page))
            .bind(i64::from(page.size))
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::repository)
    }

    async fn repository_due(&self, now: Timestamp, most: u32) -> Result<Vec<Repository>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM repositories WHERE poll_at <= $1 ORDER BY poll_at, id LIMIT $2")
                .bind(now.millis())
                .bind(i64::from(most))
                .fetch_all(self.reader())
                .await
                .map_err(failed)?;
        each(&rows, rows::repository)
    }

    async fn repository_synced(&self, id: RepositoryId, sync: &Sync) -> Result<(), StoreError> {
        let done = sqlx::query(SYNCED)
            .bind(id.to_string())
            .bind(word(&sync.status)?)
            .bind(&sync.message)
            .bind(sync.checked_at.map(Timestamp::millis))
            .bind(sync.due_at.map(Timestamp::millis))
            .bind(i64::from(sync.failures))
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        if done.rows_affected() == 0 { Err(missing(id)) } else { Ok(()) }
    }

    async fn repository_default_branch(&self, id: RepositoryId, branch: &Branch) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE repositories SET default_branch = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(branch.as_str())
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        if done.rows_affected() == 0 { Err(missing(id)) } else { Ok(()) }
    }

    async fn repository_hint(&self, id: RepositoryId, at: Timestamp) -> Result<(), StoreError> {
        let done = sqlx::query(HINT)
            .bind(id.to_string())
            .bind(at.millis())
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        if done.rows_affected() == 0 { Err(missing(id)) } else { Ok(()) }
    }

    async fn branch_list(&self, repository: RepositoryId) -> Result<Vec<BranchHead>, StoreError> {
        let rows = sqlx::query("SELECT * FROM branches WHERE repository = $1 ORDER BY branch")
            .bind(repository.to_string())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::branch_head)
    }

    async fn branch_advance(&self, advance: &BranchAdvance) -> Result<Advanced, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        require(&mut transaction, advance.repository).await?;
        let actual = head(&mut transaction, advance).await?;
        if actual != advance.from {
            return Ok(Advanced::Stale { actual });
        }
        place(&mut transaction, advance).await?;
        for revision in &advance.revisions {
            revisions::record(&mut transaction, revision).await?;
        }
        if advance.to.is_none() {
            revisions::forget_current(&mut transaction, advance.repository, &advance.branch).await?;
        }
        if let Some(event) = &advance.event {
            events::insert(&mut transaction, event, None).await?;
        }
        let topics: &[Topic] = if advance.event.is_some() { &[Topic::Events] } else { &[] };
        self.commit(transaction, topics).await?;
        Ok(Advanced::Recorded)
    }

    async fn revision_current(
        &self,
        repository: RepositoryId,
        daemon: &DaemonId,
        branch: &Branch,
    ) -> Result<Option<Revision>, StoreError> {
        revisions::current(self.reader(), repository, daemon, branch).await
    }

    async fn revision_currents(
        &self,
        repository: RepositoryId,
        branch: &Branch,
    ) -> Result<Vec<Revision>, StoreError> {
        revisions::currents(self.reader(), repository, branch).await
    }

    async fn revision_triggered(
        &self,
        repository: RepositoryId,
        branch: &Branch,
        kind: EventKind,
    ) -> Result<Vec<Revision>, StoreError> {
        revisions::triggered(self.reader(), repository, branch, kind).await
    }

    async fn revision_any_invalid(&self, repository: RepositoryId) -> Result<bool, StoreError> {
        revisions::any_invalid(self.reader(), repository).await
    }

    async fn revision_get(&self, id: RevisionId) -> Result<Option<Revision>, StoreError> {
        revisions::get(self.reader(), id).await
    }

    async fn revision_at(
        &self,
        repository: RepositoryId,
        daemon: &DaemonId,
        commit: &Commit,
    ) -> Result<Option<Revision>, StoreError> {
        revisions::at(self.reader(), repository, daemon, commit).await
    }

    async fn revision_history(
        &self,
        repository: RepositoryId,
        daemon: &DaemonId,
        branch: Option<&Branch>,
        page: &Page,
    ) -> Result<Vec<Revision>, StoreError> {
        revisions::history(self.reader(), repository, daemon, branch, page).await
    }

    async fn revision_scheduled(&self) -> Result<Vec<Revision>, StoreError> {
        revisions::scheduled(self.reader()).await
    }

    async fn pause_list(&self, repository: RepositoryId) -> Result<Vec<Pause>, StoreError> {
        let rows = sqlx::query("SELECT * FROM pauses WHERE repository = $1 ORDER BY daemon, branch")
            .bind(repository.to_string())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::pause)
    }

    async fn daemon_list(&self, filter: &DaemonFilter, page: &Page) -> Result<Vec<DaemonRow>, StoreError> {
        revisions::daemons(self.reader(), filter, page).await
    }
}

/// The id that a part of a list, newest first, stays below. No id is as high as `~`.
pub(crate) fn before(prefix: &str, page: &Page) -> String {
    match page.after {
        Some(after) => format!("{prefix}{}", after.simple()),
        None => "~".to_owned(),
    }
}

/// Refuses a repository that is not there.
pub(crate) async fn require(connection: &mut SqliteConnection, id: RepositoryId) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT 1 FROM repositories WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.map(drop).ok_or_else(|| missing(id))
}

fn key(path: &RepositoryPath) -> String {
    path.to_string().to_lowercase()
}

async fn find(
    connection: &mut SqliteConnection,
    path: &RepositoryPath,
) -> Result<Option<Repository>, StoreError> {
    let row = sqlx::query("SELECT * FROM repositories WHERE path_key = $1")
        .bind(key(path))
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.as_ref().map(rows::repository).transpose()
}

async fn insert(connection: &mut SqliteConnection, repository: &Repository) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO repositories (id, path, path_key, origin, default_branch, sync_status, sync_message,
             checked_at, due_at, failures, poll_at, created_at, place)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(repository.id.to_string())
    .bind(repository.path.to_string())
    .bind(key(&repository.path))
    .bind(json(&repository.origin)?)
    .bind(repository.default_branch.as_str())
    .bind(word(&repository.sync.status)?)
    .bind(&repository.sync.message)
    .bind(repository.sync.checked_at.map(Timestamp::millis))
    .bind(repository.sync.due_at.map(Timestamp::millis))
    .bind(i64::from(repository.sync.failures))
    .bind(poll_at(repository).map(Timestamp::millis))
    .bind(repository.created_at.millis())
    .bind(repository.origin.place().map(Place::key))
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Since when a repository is to be looked at: a watched one that never was, since it is known.
fn poll_at(repository: &Repository) -> Option<Timestamp> {
    match (&repository.origin, repository.sync.due_at, repository.sync.checked_at) {
        (Origin::Hosted, ..) => None,
        (Origin::Watched { .. }, None, None) => Some(repository.created_at),
        (Origin::Watched { .. }, due_at, _) => due_at,
    }
}

/// Where the branch of an advance is recorded.
async fn head(
    connection: &mut SqliteConnection,
    advance: &BranchAdvance,
) -> Result<Option<Commit>, StoreError> {
    let row = sqlx::query("SELECT * FROM branches WHERE repository = $1 AND branch = $2")
        .bind(advance.repository.to_string())
        .bind(advance.branch.as_str())
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    Ok(row.as_ref().map(rows::branch_head).transpose()?.map(|head| head.commit))
}

/// Records where a branch is now.
async fn place(connection: &mut SqliteConnection, advance: &BranchAdvance) -> Result<(), StoreError> {
    let query = match &advance.to {
        None => sqlx::query("DELETE FROM branches WHERE repository = $1 AND branch = $2")
            .bind(advance.repository.to_string())
            .bind(advance.branch.as_str()),
        Some(commit) => sqlx::query(
            "INSERT INTO branches (repository, branch, role, commit_id, moved_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (repository, branch)
             DO UPDATE SET role = excluded.role, commit_id = excluded.commit_id, moved_at = excluded.moved_at",
        )
        .bind(advance.repository.to_string())
        .bind(advance.branch.as_str())
        .bind(word(&advance.role)?)
        .bind(commit.as_str())
        .bind(advance.at.millis()),
    };
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}
