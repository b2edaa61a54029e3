//! Memos: what daemons keep from run to run. The bytes are sealed before they come here.

use async_trait::async_trait;
use domain::ledger::Entry;
use domain::memo::{
    ALL_VARIABLES, Expected, MOST_SESSIONS, MOST_VARIABLES, Memo, MemoKey, MemoKind, MemoOwner, MemoWrite,
};
use domain::stage::StageRecord;
use domain::time::Timestamp;
use ports::store::memos::Kept;
use ports::store::{LeaseProof, Memos, StoreError, Topic};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};

use crate::failure::failed;
use crate::repositories::require;
use crate::rows::{self, Columns, each, json};
use crate::runs::{Added, held, journal};
use crate::store::Durable;
use crate::{SqliteStore, ledger};

pub(crate) const GET: &str = "SELECT * FROM memos
    WHERE repository = $1 AND daemon = $2 AND branch = $3 AND kind = $4 AND name = $5";

pub(crate) const LIST: &str = "SELECT * FROM memos
    WHERE repository = $1 AND daemon = $2 AND branch = $3 AND kind = $4 ORDER BY name";

/// How many there are beside the one that is written, and what they hold together.
pub(crate) const OTHERS: &str = "SELECT COUNT(*) AS number, COALESCE(SUM(size), 0) AS bytes FROM memos
    WHERE repository = $1 AND daemon = $2 AND branch = $3 AND kind = $4 AND name <> $5";

/// Forgets all but so many sessions; of those written at the same moment, by name.
pub(crate) const FORGET: &str = "DELETE FROM memos
    WHERE (repository, daemon, branch, kind, name) IN (
        SELECT repository, daemon, branch, kind, name FROM memos
        WHERE repository = $1 AND daemon = $2 AND branch = $3 AND kind = $4 AND name <> $5
        ORDER BY written_at DESC, name DESC LIMIT -1 OFFSET $6)";

pub(crate) const EXPIRE: &str = "DELETE FROM memos WHERE kind = 'session' AND written_at < $1";

#[async_trait]
impl Memos for SqliteStore {
    async fn memo_get(&self, key: &MemoKey) -> Result<Option<Memo>, StoreError> {
        let row = of(GET, key).fetch_optional(self.reader()).await.map_err(failed)?;
        row.as_ref().map(rows::memo).transpose()
    }

    async fn memo_list(&self, owner: &MemoOwner, kind: MemoKind) -> Result<Vec<Memo>, StoreError> {
        let rows = sqlx::query(LIST)
            .bind(owner.repository.to_string())
            .bind(owner.daemon.as_str())
            .bind(owner.branch.as_str())
            .bind(kind.as_str())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::memo)
    }

    async fn memo_put(&self, write: &MemoWrite) -> Result<Kept, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        require(&mut transaction, write.key.owner.repository).await?;
        let kept = put(&mut transaction, write).await?;
        if kept == Kept::Written {
            self.commit(transaction, &[]).await?;
        }
        Ok(kept)
    }

    async fn memo_remove(&self, key: &MemoKey, expected: Expected) -> Result<Kept, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        let known = get(&mut transaction, key).await?;
        if !expected.holds(known.as_ref().map(|memo| memo.written)) {
            return Ok(Kept::Conflict(key.clone(), known.map(Box::new)));
        }
        let sql = "DELETE FROM memos
            WHERE repository = $1 AND daemon = $2 AND branch = $3 AND kind = $4 AND name = $5";
        of(sql, key).execute(&mut *transaction).await.map_err(failed)?;
        self.commit(transaction, &[]).await?;
        Ok(Kept::Written)
    }

    async fn stage_keep(
        &self,
        proof: &LeaseProof,
        record: &StageRecord,
        calls: &[Entry],
        writes: &[MemoWrite],
    ) -> Result<Kept, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        let Some(row) = held(&mut transaction, proof).await? else { return Ok(Kept::Lost) };
        if journal(&mut transaction, proof.run, record, &row).await? == Added::Known {
            return Ok(Kept::Written);
        }
        for write in writes {
            let kept = put(&mut transaction, write).await?;
            if kept != Kept::Written {
                // The entry is not committed either.
                return Ok(kept);
            }
        }
        ledger::record(&mut transaction, calls).await?;
        self.commit(transaction, &[Topic::Runs]).await?;
        Ok(Kept::Written)
    }

    async fn session_expire(&self, before: Timestamp) -> Result<u64, StoreError> {
        let expired = sqlx::query(EXPIRE)
            .bind(before.millis())
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        Ok(expired.rows_affected())
    }
}

/// A statement about one memo, whose key is its first five values.
fn of<'q>(sql: &'static str, key: &'q MemoKey) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(sql)
        .bind(key.owner.repository.to_string())
        .bind(key.owner.daemon.as_str())
        .bind(key.owner.branch.as_str())
        .bind(key.kind.as_str())
        .bind(key.name.as_str())
}

async fn get(connection: &mut SqliteConnection, key: &MemoKey) -> Result<Option<Memo>, StoreError> {
    let row = of(GET, key).fetch_optional(connection).await.map_err(failed)?;
    row.as_ref().map(rows::memo).transpose()
}

/// Writes a memo, unless it is not as its writer believes or there is no room for it.
async fn put(connection: &mut SqliteConnection, write: &MemoWrite) -> Result<Kept, StoreError> {
    let key = &write.key;
    let known = get(connection, key).await?;
    if !write.expected.holds(known.as_ref().map(|memo| memo.written)) {
        return Ok(Kept::Conflict(key.clone(), known.map(Box::new)));
    }
    match key.kind {
        MemoKind::Variable => {
            let row = of(OTHERS, key).fetch_one(&mut *connection).await.map_err(failed)?;
            let columns = Columns(&row);
            let (number, bytes): (usize, usize) = (columns.number("number")?, columns.number("bytes")?);
            if number >= MOST_VARIABLES || bytes + write.size > ALL_VARIABLES {
                return Ok(Kept::Full(key.clone()));
            }
        }
        MemoKind::Session => {
            let others = i64::try_from(MOST_SESSIONS - 1).unwrap_or(i64::MAX);
            of(FORGET, key).bind(others).execute(&mut *connection).await.map_err(failed)?;
        }
    }
    let version = known.map_or(0, |memo| memo.version) + 1;
    let sql =
        "INSERT OR REPLACE INTO memos (repository, daemon, branch, kind, name, written, version, sealed_by,
            sealed, size, author, written_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    of(sql, key)
        .bind(write.written.to_string())
        .bind(i64::try_from(version).unwrap_or(i64::MAX))
        .bind(&write.sealed.key)
        .bind(&write.sealed.bytes)
        .bind(i64::try_from(write.size).unwrap_or(i64::MAX))
        .bind(json(&write.by)?)
        .bind(write.at.millis())
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(Kept::Written)
}
