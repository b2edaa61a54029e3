//! Proposals, comments, checks.

use async_trait::async_trait;
use domain::effect::CommentTarget;
use domain::id::{CommentId, ProposalId, RepositoryId};
use domain::name::Commit;
use domain::proposal::{Check, Comment, Proposal, ProposalStatus};
use domain::time::Timestamp;
use ports::store::{Discussions, Page, StoreError};
use sqlx::QueryBuilder;
use sqlx::sqlite::{Sqlite, SqliteConnection};

use crate::SqliteStore;
use crate::failure::failed;
use crate::repositories::{before, require};
use crate::rows::{self, each, json, word};
use crate::store::Durable;

#[async_trait]
impl Discussions for SqliteStore {
    async fn proposal_put(&self, proposal: &Proposal) -> Result<Proposal, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        require(&mut transaction, proposal.repository).await?;
        let stored = match change(&mut transaction, proposal).await? {
            Some(changed) => changed,
            None => insert(&mut transaction, proposal).await?,
        };
        self.commit(transaction, &[]).await?;
        Ok(stored)
    }

    async fn proposal_get(
        &self,
        repository: RepositoryId,
        number: u64,
    ) -> Result<Option<Proposal>, StoreError> {
        let row = sqlx::query("SELECT * FROM proposals WHERE repository = $1 AND number = $2")
            .bind(repository.to_string())
            .bind(i64::try_from(number).unwrap_or(i64::MAX))
            .fetch_optional(self.reader())
            .await
            .map_err(failed)?;
        row.as_ref().map(rows::proposal).transpose()
    }

    async fn proposal_list(
        &self,
        repository: RepositoryId,
        status: Option<&str>,
        page: &Page,
    ) -> Result<Vec<Proposal>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM proposals WHERE repository = ");
        query.push_bind(repository.to_string());
        if let Some(status) = status {
            query.push(" AND status = ").push_bind(status.to_owned());
        }
        query.push(" AND id < ").push_bind(before(ProposalId::PREFIX, page));
        query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(page.size));
        let rows = query.build().fetch_all(self.reader()).await.map_err(failed)?;
        each(&rows, rows::proposal)
    }

    async fn proposal_settle(
        &self,
        id: ProposalId,
        status: &ProposalStatus,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let settled = sqlx::query(
            "UPDATE proposals SET status = $2, detail = $3, updated_at = $4 WHERE id = $1 AND status = 'open'",
        )
        .bind(id.to_string())
        .bind(status.as_str())
        .bind(json(status)?)
        .bind(at.millis())
        .execute(&mut *self.writer(Durable::Now).await?)
        .await
        .map_err(failed)?;
        Ok(settled.rows_affected() == 1)
    }

    async fn comment_put(&self, comment: &Comment) -> Result<Comment, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        require(&mut transaction, comment.repository).await?;
        let row = sqlx::query(
            "INSERT INTO comments (id, repository, target, key, author, body, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (repository, key) DO UPDATE SET target = excluded.target, author = excluded.author,
                 body = excluded.body, updated_at = excluded.updated_at
             RETURNING *",
        )
        .bind(comment.id.to_string())
        .bind(comment.repository.to_string())
        .bind(json(&comment.target)?)
        .bind(&comment.key)
        .bind(json(&comment.author)?)
        .bind(&comment.body)
        .bind(comment.created_at.millis())
        .bind(comment.updated_at.millis())
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        let stored = rows::comment(&row)?;
        self.commit(transaction, &[]).await?;
        Ok(stored)
    }

    async fn comment_list(
        &self,
        repository: RepositoryId,
        target: Option<&CommentTarget>,
        page: &Page,
    ) -> Result<Vec<Comment>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM comments WHERE repository = ");
        query.push_bind(repository.to_string());
        match target {
            None => {
                query.push(" AND id < ").push_bind(before(CommentId::PREFIX, page)).push(" ORDER BY id DESC");
            }
            Some(target) => {
                let after = page.after.map(|after| CommentId::new(after).to_string()).unwrap_or_default();
                query.push(" AND target = ").push_bind(json(target)?);
                query.push(" AND id > ").push_bind(after).push(" ORDER BY id");
            }
        }
        query.push(" LIMIT ").push_bind(i64::from(page.size));
        let rows = query.build().fetch_all(self.reader()).await.map_err(failed)?;
        each(&rows, rows::comment)
    }

    async fn check_put(&self, check: &Check) -> Result<(), StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        require(&mut transaction, check.repository).await?;
        sqlx::query(
            "INSERT INTO checks (id, repository, commit_id, name, author, conclusion, summary, annotations, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (repository, commit_id, name) DO UPDATE SET id = excluded.id,
                 author = excluded.author, conclusion = excluded.conclusion, summary = excluded.summary,
                 annotations = excluded.annotations, created_at = excluded.created_at",
        )
        .bind(check.id.to_string())
        .bind(check.repository.to_string())
        .bind(check.commit.as_str())
        .bind(&check.name)
        .bind(json(&check.author)?)
        .bind(word(&check.conclusion)?)
        .bind(&check.summary)
        .bind(json(&check.annotations)?)
        .bind(check.created_at.millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        self.commit(transaction, &[]).await
    }

    async fn check_list(&self, repository: RepositoryId, commit: &Commit) -> Result<Vec<Check>, StoreError> {
        let rows = sqlx::query("SELECT * FROM checks WHERE repository = $1 AND commit_id = $2 ORDER BY name")
            .bind(repository.to_string())
            .bind(commit.as_str())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::check)
    }
}

/// Changes the open proposal with the same key, if there is one.
async fn change(
    connection: &mut SqliteConnection,
    proposal: &Proposal,
) -> Result<Option<Proposal>, StoreError> {
    let row = sqlx::query(
        "UPDATE proposals SET title = $3, body = $4, head = $5, draft = $6, labels = $7, provenance = $8, updated_at = $9
         WHERE repository = $1 AND key = $2 AND status = 'open' RETURNING *",
    )
    .bind(proposal.repository.to_string())
    .bind(&proposal.key)
    .bind(&proposal.title)
    .bind(&proposal.body)
    .bind(proposal.head.as_str())
    .bind(i64::from(proposal.draft))
    .bind(json(&proposal.labels)?)
    .bind(proposal.provenance.as_ref().map(json).transpose()?)
    .bind(proposal.updated_at.millis())
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    row.as_ref().map(rows::proposal).transpose()
}

/// Stores a proposal under the next number of its repository.
async fn insert(connection: &mut SqliteConnection, proposal: &Proposal) -> Result<Proposal, StoreError> {
    let row = sqlx::query(
        "INSERT INTO proposals (id, repository, number, key, provenance, title, body, base, branch, head, draft,
             labels, status, detail, created_at, updated_at)
         SELECT $1, $2, COALESCE(MAX(number), 0) + 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
         FROM proposals WHERE repository = $2
         RETURNING *",
    )
    .bind(proposal.id.to_string())
    .bind(proposal.repository.to_string())
    .bind(&proposal.key)
    .bind(proposal.provenance.as_ref().map(json).transpose()?)
    .bind(&proposal.title)
    .bind(&proposal.body)
    .bind(proposal.base.as_str())
    .bind(proposal.branch.as_str())
    .bind(proposal.head.as_str())
    .bind(i64::from(proposal.draft))
    .bind(json(&proposal.labels)?)
    .bind(proposal.status.as_str())
    .bind(json(&proposal.status)?)
    .bind(proposal.created_at.millis())
    .bind(proposal.updated_at.millis())
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    rows::proposal(&row)
}
