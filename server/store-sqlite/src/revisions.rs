//! Revisions of daemons, which of them are the newest, and the list of daemons.

use std::collections::BTreeSet;

use domain::event::EventKind;
use domain::id::{RepositoryId, RevisionId};
use domain::name::{Branch, Commit, DaemonId};
use domain::revision::{Revision, RevisionContent};
use ports::store::repositories::{DaemonFilter, DaemonRow};
use ports::store::{Page, StoreError};
use sqlx::QueryBuilder;
use sqlx::sqlite::{Sqlite, SqliteConnection, SqlitePool, SqliteRow};

use crate::failure::failed;
use crate::repositories::before;
use crate::rows::{self, Columns, each, json};

/// Stores a revision, unless an identical one is there, and makes it (or that one) the newest of its
/// daemon on its branch.
pub(crate) async fn record(connection: &mut SqliteConnection, revision: &Revision) -> Result<(), StoreError> {
    let added = sqlx::query(
        "INSERT INTO revisions (id, repository, daemon, branch, commit_id, content, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (repository, daemon, branch, commit_id) DO NOTHING",
    )
    .bind(revision.id.to_string())
    .bind(revision.repository.to_string())
    .bind(revision.daemon.as_str())
    .bind(revision.branch.as_str())
    .bind(revision.commit.as_str())
    .bind(json(&revision.content)?)
    .bind(revision.created_at.millis())
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    if added.rows_affected() == 1 {
        return point_to(connection, revision).await;
    }
    let there = sqlx::query(
        "SELECT * FROM revisions WHERE repository = $1 AND daemon = $2 AND branch = $3 AND commit_id = $4",
    )
    .bind(revision.repository.to_string())
    .bind(revision.daemon.as_str())
    .bind(revision.branch.as_str())
    .bind(revision.commit.as_str())
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    point_to(connection, &rows::revision(&there)?).await
}

async fn point_to(connection: &mut SqliteConnection, revision: &Revision) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO currents (repository, daemon, branch, revision, removed, invalid)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (repository, daemon, branch)
         DO UPDATE SET revision = excluded.revision, removed = excluded.removed, invalid = excluded.invalid",
    )
    .bind(revision.repository.to_string())
    .bind(revision.daemon.as_str())
    .bind(revision.branch.as_str())
    .bind(revision.id.to_string())
    .bind(i64::from(revision.content == RevisionContent::Removed))
    .bind(i64::from(matches!(revision.content, RevisionContent::Invalid { .. })))
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query("DELETE FROM current_triggers WHERE repository = $1 AND daemon = $2 AND branch = $3")
        .bind(revision.repository.to_string())
        .bind(revision.daemon.as_str())
        .bind(revision.branch.as_str())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    for kind in kinds(&revision.content) {
        sqlx::query(
            "INSERT INTO current_triggers (repository, branch, kind, daemon, revision) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(revision.repository.to_string())
        .bind(revision.branch.as_str())
        .bind(kind)
        .bind(revision.daemon.as_str())
        .bind(revision.id.to_string())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    }
    Ok(())
}

/// Nothing is current on a branch that is gone; its history stays.
pub(crate) async fn forget_current(
    connection: &mut SqliteConnection,
    repository: RepositoryId,
    branch: &Branch,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM current_triggers WHERE repository = $1 AND branch = $2",
        "DELETE FROM currents WHERE repository = $1 AND branch = $2",
    ] {
        sqlx::query(statement)
            .bind(repository.to_string())
            .bind(branch.as_str())
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// The kinds of events that a daemon waits for.
fn kinds(content: &RevisionContent) -> BTreeSet<&'static str> {
    match content {
        RevisionContent::Valid { triggers, .. } => {
            triggers.iter().map(|trigger| trigger.on.event().as_str()).collect()
        }
        RevisionContent::Invalid { .. } | RevisionContent::Removed => BTreeSet::new(),
    }
}

pub(crate) async fn current(
    reader: &SqlitePool,
    repository: RepositoryId,
    daemon: &DaemonId,
    branch: &Branch,
) -> Result<Option<Revision>, StoreError> {
    let row = sqlx::query(CURRENT)
        .bind(repository.to_string())
        .bind(daemon.as_str())
        .bind(branch.as_str())
        .fetch_optional(reader)
        .await
        .map_err(failed)?;
    row.as_ref().map(rows::revision).transpose()
}

pub(crate) const CURRENT: &str =
    "SELECT revisions.* FROM currents JOIN revisions ON revisions.id = currents.revision
    WHERE currents.repository = $1 AND currents.daemon = $2 AND currents.branch = $3";

/// Whether any daemon is invalid where it is deployed.
pub(crate) async fn any_invalid(reader: &SqlitePool, repository: RepositoryId) -> Result<bool, StoreError> {
    let found =
        sqlx::query(ANY_INVALID).bind(repository.to_string()).fetch_optional(reader).await.map_err(failed)?;
    Ok(found.is_some())
}

pub(crate) const ANY_INVALID: &str = "SELECT 1 FROM currents
    JOIN branches ON branches.repository = currents.repository AND branches.branch = currents.branch
    WHERE currents.repository = $1 AND currents.invalid = 1 AND branches.role = 'deploy' LIMIT 1";

pub(crate) async fn currents(
    reader: &SqlitePool,
    repository: RepositoryId,
    branch: &Branch,
) -> Result<Vec<Revision>, StoreError> {
    let rows = sqlx::query(CURRENTS)
        .bind(repository.to_string())
        .bind(branch.as_str())
        .fetch_all(reader)
        .await
        .map_err(failed)?;
    each(&rows, rows::revision)
}

pub(crate) const CURRENTS: &str =
    "SELECT revisions.* FROM currents JOIN revisions ON revisions.id = currents.revision
    WHERE currents.repository = $1 AND currents.branch = $2 ORDER BY currents.daemon";

pub(crate) async fn triggered(
    reader: &SqlitePool,
    repository: RepositoryId,
    branch: &Branch,
    kind: EventKind,
) -> Result<Vec<Revision>, StoreError> {
    let rows = sqlx::query(TRIGGERED)
        .bind(repository.to_string())
        .bind(branch.as_str())
        .bind(kind.as_str())
        .fetch_all(reader)
        .await
        .map_err(failed)?;
    each(&rows, rows::revision)
}

pub(crate) const TRIGGERED: &str = "SELECT revisions.* FROM current_triggers
    JOIN revisions ON revisions.id = current_triggers.revision
    WHERE current_triggers.repository = $1 AND current_triggers.branch = $2 AND current_triggers.kind = $3
    ORDER BY current_triggers.daemon";

pub(crate) async fn get(reader: &SqlitePool, id: RevisionId) -> Result<Option<Revision>, StoreError> {
    let row = sqlx::query("SELECT * FROM revisions WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(reader)
        .await
        .map_err(failed)?;
    row.as_ref().map(rows::revision).transpose()
}

pub(crate) async fn at(
    reader: &SqlitePool,
    repository: RepositoryId,
    daemon: &DaemonId,
    commit: &Commit,
) -> Result<Option<Revision>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM revisions WHERE repository = $1 AND daemon = $2 AND commit_id = $3 ORDER BY id DESC LIMIT 1",
    )
    .bind(repository.to_string())
    .bind(daemon.as_str())
    .bind(commit.as_str())
    .fetch_optional(reader)
    .await
    .map_err(failed)?;
    row.as_ref().map(rows::revision).transpose()
}

pub(crate) async fn history(
    reader: &SqlitePool,
    repository: RepositoryId,
    daemon: &DaemonId,
    branch: Option<&Branch>,
    page: &Page,
) -> Result<Vec<Revision>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM revisions WHERE repository = ");
    query.push_bind(repository.to_string()).push(" AND daemon = ").push_bind(daemon.to_string());
    if let Some(branch) = branch {
        query.push(" AND branch = ").push_bind(branch.to_string());
    }
    query.push(" AND id < ").push_bind(before(RevisionId::PREFIX, page));
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(page.size));
    let rows = query.build().fetch_all(reader).await.map_err(failed)?;
    each(&rows, rows::revision)
}

pub(crate) async fn scheduled(reader: &SqlitePool) -> Result<Vec<Revision>, StoreError> {
    let rows = sqlx::query(SCHEDULED).fetch_all(reader).await.map_err(failed)?;
    each(&rows, rows::revision)
}

pub(crate) const SCHEDULED: &str = "SELECT revisions.* FROM current_triggers
    JOIN branches ON branches.repository = current_triggers.repository AND branches.branch = current_triggers.branch
    JOIN revisions ON revisions.id = current_triggers.revision
    WHERE current_triggers.kind = 'schedule' AND branches.role = 'deploy'
    ORDER BY current_triggers.repository, current_triggers.daemon, current_triggers.branch";

/// Daemons in their order. The outer loop goes over repositories by path, the inner one over their
/// daemons by name: no sorting, and a part costs as much as it holds.
pub(crate) async fn daemons(
    reader: &SqlitePool,
    filter: &DaemonFilter,
    page: &Page,
) -> Result<Vec<DaemonRow>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(DAEMONS);
    if let Some(repository) = filter.repository {
        query.push(" AND repositories.id = ").push_bind(repository.to_string());
    }
    match &filter.branch {
        Some(branch) => query.push(" AND currents.branch = ").push_bind(branch.to_string()),
        None => query.push(" AND branches.role = 'deploy'"),
    };
    if let Some(after) = page.after {
        let Some((path, daemon, branch)) = place_of(reader, RevisionId::new(after)).await? else {
            return Ok(Vec::new());
        };
        query.push(" AND repositories.path_key >= ").push_bind(path.clone());
        query.push(" AND (repositories.path_key, currents.daemon, currents.branch) > (");
        query.push_bind(path).push(", ").push_bind(daemon).push(", ").push_bind(branch).push(")");
    }
    query.push(" ORDER BY repositories.path_key, currents.daemon, currents.branch LIMIT ");
    query.push_bind(i64::from(page.size));
    let rows = query.build().fetch_all(reader).await.map_err(failed)?;
    each(&rows, daemon_row)
}

pub(crate) const DAEMONS: &str = "SELECT revisions.*, repositories.path, branches.role, (
        SELECT runs.status FROM runs
        WHERE runs.repository = currents.repository AND runs.daemon = currents.daemon
            AND runs.branch = currents.branch AND runs.ended_at IS NOT NULL
        ORDER BY runs.id DESC LIMIT 1
    ) AS last_run, pauses.paused_by, pauses.paused_at
    FROM repositories
    CROSS JOIN currents ON currents.repository = repositories.id
    CROSS JOIN branches ON branches.repository = currents.repository AND branches.branch = currents.branch
    CROSS JOIN revisions ON revisions.id = currents.revision
    LEFT JOIN pauses ON pauses.repository = currents.repository AND pauses.daemon = currents.daemon
        AND pauses.branch = currents.branch
    WHERE currents.removed = 0";

/// Where the daemon of a revision stands in the list.
async fn place_of(
    reader: &SqlitePool,
    id: RevisionId,
) -> Result<Option<(String, String, String)>, StoreError> {
    sqlx::query_as(
        "SELECT repositories.path_key, revisions.daemon, revisions.branch
         FROM revisions JOIN repositories ON repositories.id = revisions.repository WHERE revisions.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(reader)
    .await
    .map_err(failed)
}

fn daemon_row(row: &SqliteRow) -> Result<DaemonRow, StoreError> {
    let columns = Columns(row);
    let last_run = match columns.raw::<Option<&str>>("last_run")? {
        None => None,
        Some(_) => Some(rows::run_status(&columns, "last_run")?),
    };
    let pause = match columns.raw::<Option<&str>>("paused_by")? {
        None => None,
        Some(_) => Some(rows::pause(row)?),
    };
    Ok(DaemonRow {
        path: columns.parsed("path")?,
        revision: rows::revision(row)?,
        pause,
        role: columns.word("role")?,
        last_run,
    })
}
