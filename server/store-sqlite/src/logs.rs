//! Log lines of runs that are under way.

use async_trait::async_trait;
use domain::id::RunId;
use ports::store::logs::{LogLine, NewLine};
use ports::store::{Fenced, LeaseProof, Logs, StoreError, Topic};
use sqlx::sqlite::Sqlite;
use sqlx::{QueryBuilder, Row as _};

use crate::SqliteStore;
use crate::failure::failed;
use crate::rows::{self, each};
use crate::store::Durable;

/// How many lines one statement adds; SQLite takes 32,766 values in one.
const BATCH: usize = 1_000;

#[async_trait]
impl Logs for SqliteStore {
    async fn log_append(&self, proof: &LeaseProof, lines: &[NewLine]) -> Result<Fenced, StoreError> {
        let mut transaction = self.write(Durable::Soon).await?;
        let count = i64::try_from(lines.len()).unwrap_or(i64::MAX);
        let row = sqlx::query(
            "UPDATE runs SET log_lines = log_lines + $4
             WHERE id = $1 AND worker = $2 AND attempt = $3 AND status = 'running' RETURNING log_lines",
        )
        .bind(proof.run.to_string())
        .bind(proof.worker.to_string())
        .bind(i64::from(proof.attempt))
        .bind(count)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(Fenced::Lost) };
        let last: i64 = row.try_get("log_lines").map_err(failed)?;
        let run = proof.run.to_string();
        let mut numbered = (last - count + 1..).zip(lines);
        for batch in lines.chunks(BATCH) {
            let mut insert =
                QueryBuilder::<Sqlite>::new("INSERT INTO log_lines (run, number, stage, source, text, at) ");
            insert.push_values(numbered.by_ref().take(batch.len()), |mut row, (number, line)| {
                row.push_bind(&run).push_bind(number).push_bind(line.stage.as_str());
                row.push_bind(line.source.as_str()).push_bind(&line.text).push_bind(line.at.millis());
            });
            // Not kept among the prepared statements: each number of lines is another statement.
            insert.build().persistent(false).execute(&mut *transaction).await.map_err(failed)?;
        }
        self.commit(transaction, &[Topic::Logs]).await?;
        Ok(Fenced::Written)
    }

    async fn log_read(&self, run: RunId, after: u64, most: u32) -> Result<Vec<LogLine>, StoreError> {
        let rows = sqlx::query(READ)
            .bind(run.to_string())
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(i64::from(most))
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::log_line)
    }

    async fn log_remove(&self, run: RunId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM log_lines WHERE run = $1")
            .bind(run.to_string())
            .execute(&mut *self.writer(Durable::Soon).await?)
            .await
            .map_err(failed)?;
        self.wake(&[Topic::Logs]);
        Ok(())
    }
}

pub(crate) const READ: &str =
    "SELECT * FROM log_lines WHERE run = $1 AND number > $2 ORDER BY number LIMIT $3";
