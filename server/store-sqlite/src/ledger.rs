//! The ledger of calls of models, and the balances of the budgets that they have to fit.

use async_trait::async_trait;
use domain::budget::{Alert, Balance, Budget, Limit, Origin, Payers, Period, Scope, Window};
use domain::id::{BudgetId, CallId, RunId};
use domain::ledger::{Entry, Grouping, LOST, Spend, Standing};
use domain::money::NanoUsd;
use domain::stage::{ModelUsage, PriceSource, StagePath, Tokens};
use domain::time::Timestamp;
use ports::store::ledger::{Reserved, Settled, Wanted};
use ports::store::{Fenced, LeaseProof, Ledger, StoreError, Topic};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::SqliteStore;
use crate::failure::failed;
use crate::rows::{Columns, each};
use crate::runs::held;
use crate::store::Durable;

#[async_trait]
impl Ledger for SqliteStore {
    async fn budget_reserve(&self, proof: &LeaseProof, wanted: &Wanted<'_>) -> Result<Reserved, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        if held(&mut transaction, proof).await?.is_none() {
            return Ok(Reserved::Lost);
        }
        settle(&mut transaction, wanted.settled).await?;
        let mut balances = Vec::with_capacity(wanted.limits.len());
        for limit in wanted.limits {
            balances.push((limit.clone(), balance(&mut transaction, limit).await?));
        }
        let judged = Reserved::judge(balances, wanted.entry.charged());
        if judged == Reserved::Reserved && insert(&mut transaction, wanted.entry, Recorded::Not).await? {
            let change = Change { reserved: wanted.entry.charged().nanos(), spent: 0 };
            account(&mut transaction, wanted.entry, change).await?;
        }
        self.commit(transaction, &[]).await?;
        Ok(judged)
    }

    // Lost, the reservation stands: too much is charged rather than too little.
    async fn budget_settle(&self, proof: &LeaseProof, settled: &Settled) -> Result<Fenced, StoreError> {
        let mut transaction = self.write(Durable::Soon).await?;
        if held(&mut transaction, proof).await?.is_none() {
            return Ok(Fenced::Lost);
        }
        settle(&mut transaction, settled).await?;
        self.commit(transaction, &[]).await?;
        Ok(Fenced::Written)
    }

    async fn ledger_close(&self, run: Option<RunId>) -> Result<u64, StoreError> {
        let run = run.map(|run| run.to_string());
        let some = sqlx::query(OVER).bind(&run).fetch_optional(self.reader()).await.map_err(failed)?;
        if some.is_none() {
            return Ok(0);
        }
        let mut transaction = self.write(Durable::Now).await?;
        let rows = sqlx::query(OVER).bind(&run).fetch_all(&mut *transaction).await.map_err(failed)?;
        for row in &rows {
            close(&mut transaction, entry(row)?).await?;
        }
        self.commit(transaction, &[Topic::Runs]).await?;
        Ok(rows.len() as u64)
    }

    async fn ledger_of_run(&self, run: RunId) -> Result<Vec<Entry>, StoreError> {
        let rows = sqlx::query("SELECT * FROM ledger WHERE run = $1 ORDER BY at, id")
            .bind(run.to_string())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, entry)
    }

    async fn ledger_spend(&self, by: Grouping, since: Timestamp) -> Result<Vec<Spend>, StoreError> {
        let key = match by {
            Grouping::Daemon => "daemon",
            Grouping::Model => "provider || '/' || served",
            Grouping::Repository => "repository",
            Grouping::Author => "author",
        };
        let sql = format!("SELECT {key} AS key, {SUMS} GROUP BY 1 ORDER BY cost DESC, key");
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(since.millis())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, spend)
    }

    async fn balance_get(&self, limit: &Limit) -> Result<Balance, StoreError> {
        let mut reader = self.reader().acquire().await.map_err(failed)?;
        match kept(&mut reader, limit).await? {
            Some(balance) => Ok(balance),
            None => summed(&mut reader, limit).await,
        }
    }

    async fn balance_list(
        &self,
        scope: Scope,
        window: &Window,
        most: u32,
    ) -> Result<Vec<(String, Balance)>, StoreError> {
        let column = scope.as_str();
        let sql = format!(
            "SELECT {column} AS subject, {BALANCE} FROM ledger WHERE at >= $1 AND at < $2 AND {column} IS NOT NULL
             GROUP BY 1 ORDER BY spent DESC, subject LIMIT $3"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(window.from.millis())
            .bind(window.until.map_or(i64::MAX, Timestamp::millis))
            .bind(i64::from(most))
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, |row| Ok((Columns(row).text("subject")?, read_balance(row)?)))
    }

    async fn budget_set(&self, budget: &Budget) -> Result<(), StoreError> {
        let Origin::Set { id, by, at, .. } = &budget.origin else {
            return Err(StoreError::Conflict("a budget of the configuration is not stored".to_owned()));
        };
        let mut transaction = self.write(Durable::Now).await?;
        sqlx::query(
            "UPDATE budgets SET ended_by = $4, ended_at = $5
             WHERE scope = $1 AND COALESCE(subject, '') = COALESCE($2, '') AND period = $3 AND ended_at IS NULL",
        )
        .bind(budget.scope.as_str())
        .bind(&budget.subject)
        .bind(budget.period.as_str())
        .bind(by)
        .bind(at.millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query("INSERT INTO budgets VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, NULL)")
            .bind(id.to_string())
            .bind(budget.scope.as_str())
            .bind(&budget.subject)
            .bind(budget.period.as_str())
            .bind(budget.limit.nanos())
            .bind(by)
            .bind(at.millis())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        self.commit(transaction, &[]).await
    }

    async fn budget_remove(&self, budget: BudgetId, by: &str, at: Timestamp) -> Result<bool, StoreError> {
        let ended =
            sqlx::query("UPDATE budgets SET ended_by = $2, ended_at = $3 WHERE id = $1 AND ended_at IS NULL")
                .bind(budget.to_string())
                .bind(by)
                .bind(at.millis())
                .execute(&mut *self.writer(Durable::Now).await?)
                .await
                .map_err(failed)?;
        Ok(ended.rows_affected() == 1)
    }

    async fn budget_held(&self) -> Result<Vec<Budget>, StoreError> {
        let rows = sqlx::query("SELECT * FROM budgets WHERE ended_at IS NULL ORDER BY id DESC")
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, budget)
    }

    async fn budget_list(&self) -> Result<Vec<Budget>, StoreError> {
        let rows = sqlx::query("SELECT * FROM budgets ORDER BY id DESC")
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, budget)
    }

    async fn alert_record(&self, alert: &Alert) -> Result<bool, StoreError> {
        let Alert { limit, percent, spent, run, at } = alert;
        let added = sqlx::query(
            "INSERT INTO alerts VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT DO NOTHING",
        )
        .bind(limit.scope.as_str())
        .bind(&limit.subject)
        .bind(&limit.window.key)
        .bind(limit.amount.nanos())
        .bind(i64::from(*percent))
        .bind(limit.window.period.as_str())
        .bind(limit.window.from.millis())
        .bind(limit.window.until.map(Timestamp::millis))
        .bind(&limit.repository)
        .bind(spent.nanos())
        .bind(run.to_string())
        .bind(at.millis())
        .execute(&mut *self.writer(Durable::Now).await?)
        .await
        .map_err(failed)?;
        Ok(added.rows_affected() == 1)
    }

    async fn alert_list(&self, most: u32) -> Result<Vec<Alert>, StoreError> {
        let rows = sqlx::query("SELECT * FROM alerts ORDER BY at DESC, percent DESC, subject LIMIT $1")
            .bind(i64::from(most))
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, alert)
    }
}

/// Entries of attempts that are over which their run's cost does not have yet.
pub(crate) const OVER: &str = "SELECT ledger.* FROM ledger JOIN runs ON runs.id = ledger.run
    WHERE ledger.recorded = 0 AND (runs.status <> 'running' OR runs.attempt <> ledger.run_attempt)
      AND ($1 IS NULL OR ledger.run = $1)";

/// Balances of the accounts in a list of `[scope, subject, period]`, as far as they are kept.
pub(crate) const ACCOUNT: &str = "UPDATE balances SET reserved = reserved + $2, spent = spent + $3
    WHERE (scope, subject, period_key) IN
        (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1))";

const BALANCE: &str = "SUM(CASE WHEN standing = 'reserved' THEN 0 ELSE cost END) AS spent,
    SUM(CASE WHEN standing = 'reserved' THEN cost ELSE 0 END) AS reserved";

const SUMS: &str = "COUNT(*) AS calls, COUNT(failure) AS failed, SUM(price_source IS NULL) AS unpriced,
    SUM(standing = 'estimated') AS estimated, SUM(input) AS input, SUM(cache_read) AS cache_read,
    SUM(cache_write) AS cache_write, SUM(output) AS output, SUM(reasoning) AS reasoning, SUM(cost) AS cost,
    SUM(CASE WHEN failure IS NULL THEN 0 ELSE cost END) AS failed_cost, COUNT(dearest) AS compared,
    SUM(CASE WHEN dearest IS NULL THEN 0 ELSE cost END) AS compared_cost, COALESCE(SUM(dearest), 0) AS dearest_cost
    FROM ledger WHERE at >= $1 AND standing <> 'reserved'";

/// The most tokens of a call that are written down, so that sums stay integers.
const MOST_TOKENS: i64 = 1_000_000_000_000;

/// Whether its run's cost has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recorded {
    Not,
    ByStage,
}

/// What happens to a balance.
#[derive(Debug, Clone, Copy)]
struct Change {
    reserved: i64,
    spent: i64,
}

/// Writes down the calls of a stage that is recorded in the same transaction.
pub(crate) async fn record(connection: &mut SqliteConnection, calls: &[Entry]) -> Result<(), StoreError> {
    for entry in calls {
        settle_one(connection, entry, Recorded::ByStage).await?;
    }
    Ok(())
}

async fn settle(connection: &mut SqliteConnection, settled: &Settled) -> Result<(), StoreError> {
    for entry in &settled.entries {
        settle_one(connection, entry, Recorded::Not).await?;
    }
    for id in &settled.released {
        release(connection, *id).await?;
    }
    Ok(())
}

async fn settle_one(
    connection: &mut SqliteConnection,
    settled: &Entry,
    recorded: Recorded,
) -> Result<(), StoreError> {
    let spent = settled.charged().nanos();
    if insert(connection, settled, recorded).await? {
        return account(connection, settled, Change { reserved: 0, spent }).await;
    }
    let row = sqlx::query("SELECT standing, cost, at FROM ledger WHERE id = $1")
        .bind(settled.id.to_string())
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let columns = Columns(&row);
    if columns.word::<Standing>("standing")? == Standing::Reserved {
        // It is added to the periods in which it began.
        let began = Entry { at: columns.time("at")?, ..settled.clone() };
        let reserved = -columns.raw::<i64>("cost")?;
        delete(connection, settled.id).await?;
        insert(connection, &began, recorded).await?;
        account(connection, &began, Change { reserved, spent }).await?;
    } else if recorded == Recorded::ByStage {
        sqlx::query("UPDATE ledger SET recorded = 1 WHERE id = $1")
            .bind(settled.id.to_string())
            .execute(connection)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

async fn release(connection: &mut SqliteConnection, id: CallId) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT * FROM ledger WHERE id = $1 AND standing = 'reserved'")
        .bind(id.to_string())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    let Some(row) = row else { return Ok(()) };
    let entry = entry(&row)?;
    delete(connection, id).await?;
    account(connection, &entry, Change { reserved: -entry.charged().nanos(), spent: 0 }).await
}

/// Charges an entry for good, and its run with it.
async fn close(connection: &mut SqliteConnection, entry: Entry) -> Result<(), StoreError> {
    let cost = entry.charged().nanos();
    if entry.standing == Standing::Reserved {
        let entry = entry.clone().given_up();
        account(connection, &entry, Change { reserved: -cost, spent: cost }).await?;
        sqlx::query("UPDATE ledger SET standing = 'estimated', failure = $2 WHERE id = $1")
            .bind(entry.id.to_string())
            .bind(LOST)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    for sql in ["UPDATE ledger SET recorded = 1 WHERE id = $1", ADD_TO_RUN] {
        sqlx::query(sql).bind(entry.id.to_string()).execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

const ADD_TO_RUN: &str = "UPDATE runs SET cost = MIN(runs.cost, 1000000000000000000) + ledger.cost
    FROM ledger WHERE ledger.id = $1 AND runs.id = ledger.run";

async fn delete(connection: &mut SqliteConnection, id: CallId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM ledger WHERE id = $1")
        .bind(id.to_string())
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed)
}

/// Changes the balances that are kept of an entry's accounts.
async fn account(connection: &mut SqliteConnection, entry: &Entry, change: Change) -> Result<(), StoreError> {
    let accounts = entry.payers.accounts(entry.run, entry.at);
    let accounts: Vec<[&str; 3]> =
        accounts.iter().map(|(scope, subject, window)| [scope.as_str(), subject, &window.key]).collect();
    sqlx::query(ACCOUNT)
        .bind(crate::rows::json(&accounts)?)
        .bind(change.reserved)
        .bind(change.spent)
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed)
}

/// The balance of a budget, kept from now on.
async fn balance(connection: &mut SqliteConnection, limit: &Limit) -> Result<Balance, StoreError> {
    if let Some(balance) = kept(connection, limit).await? {
        return Ok(balance);
    }
    let balance = summed(connection, limit).await?;
    sqlx::query("INSERT INTO balances VALUES ($1, $2, $3, $4, $5)")
        .bind(limit.scope.as_str())
        .bind(&limit.subject)
        .bind(&limit.window.key)
        .bind(balance.spent.nanos())
        .bind(balance.reserved.nanos())
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(balance)
}

async fn kept(connection: &mut SqliteConnection, limit: &Limit) -> Result<Option<Balance>, StoreError> {
    let row = sqlx::query(
        "SELECT spent, reserved FROM balances WHERE scope = $1 AND subject = $2 AND period_key = $3",
    )
    .bind(limit.scope.as_str())
    .bind(&limit.subject)
    .bind(&limit.window.key)
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    row.as_ref().map(read_balance).transpose()
}

async fn summed(connection: &mut SqliteConnection, limit: &Limit) -> Result<Balance, StoreError> {
    let Window { period, key, from, until } = &limit.window;
    let (within, container) = match (period, limit.scope) {
        (Period::Run, _) => ("run = $1", key),
        (_, Scope::Owner | Scope::Repository | Scope::Author) => ("$1 IS NOT NULL", key),
        // All of them are in one repository, by which they are found.
        (_, Scope::Daemon | Scope::Branch | Scope::PullRequest) => ("repository = $1", &limit.repository),
    };
    let column = limit.scope.as_str();
    let sql =
        format!("SELECT {BALANCE} FROM ledger WHERE {within} AND {column} = $2 AND at >= $3 AND at < $4");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(container)
        .bind(&limit.subject)
        .bind(from.millis())
        .bind(until.map_or(i64::MAX, Timestamp::millis))
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    read_balance(&row)
}

fn read_balance(row: &SqliteRow) -> Result<Balance, StoreError> {
    // The sum of nothing is no number.
    let amount = |name| Ok(NanoUsd::from_nanos(Columns(row).raw::<Option<i64>>(name)?.unwrap_or(0)));
    Ok(Balance { spent: amount("spent")?, reserved: amount("reserved")? })
}

/// Adds an entry; `false` when it is there.
async fn insert(
    connection: &mut SqliteConnection,
    entry: &Entry,
    recorded: Recorded,
) -> Result<bool, StoreError> {
    let Entry { payers, call, .. } = entry;
    // No model reads as many; a provider may say so all the same.
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX).min(MOST_TOKENS);
    let added = sqlx::query(
        "INSERT INTO ledger VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
            $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29) ON CONFLICT DO NOTHING",
    )
    .bind(entry.id.to_string())
    .bind(entry.run.to_string())
    .bind(i64::from(entry.run_attempt))
    .bind(entry.stage.as_str())
    .bind(&payers.owner)
    .bind(&payers.repository)
    .bind(&payers.daemon)
    .bind(&payers.branch)
    .bind(&payers.author)
    .bind(&payers.pull_request)
    .bind(entry.standing.as_str())
    .bind(recorded == Recorded::ByStage)
    .bind(&call.requested)
    .bind(&call.served)
    .bind(&call.provider)
    .bind(i64::from(call.attempt))
    .bind(count(call.tokens.input))
    .bind(count(call.tokens.cache_read))
    .bind(count(call.tokens.cache_write))
    .bind(count(call.cache_write_1h))
    .bind(count(call.tokens.output))
    .bind(count(call.tokens.reasoning))
    .bind(count(call.images))
    .bind(call.price.as_ref().map(|price| &price.source))
    .bind(call.price.as_ref().and_then(|price| price.date.as_ref()))
    .bind(entry.charged().nanos())
    .bind(call.dearest.map(|dearest| dearest.min(domain::budget::LARGEST).nanos()))
    .bind(&call.failure)
    .bind(entry.at.millis())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(added.rows_affected() == 1)
}

fn entry(row: &SqliteRow) -> Result<Entry, StoreError> {
    let columns = Columns(row);
    let (id, at, standing) = (columns.parsed("id")?, columns.time("at")?, columns.word("standing")?);
    let amount = |name| Ok::<_, StoreError>(columns.raw::<Option<i64>>(name)?.map(NanoUsd::from_nanos));
    let source: Option<String> = columns.raw("price_source")?;
    let date = columns.raw("price_date")?;
    let call = ModelUsage {
        id: Some(id),
        at: Some(at),
        attempt: columns.number("attempt")?,
        requested: columns.text("requested")?,
        served: columns.text("served")?,
        provider: columns.text("provider")?,
        tokens: tokens(&columns)?,
        cost: amount("cost")?.unwrap_or_default(),
        estimated: standing != Standing::Final,
        cache_write_1h: columns.number("cache_write_1h")?,
        images: columns.number("images")?,
        price: source.map(|source| PriceSource { source, date }),
        dearest: amount("dearest")?,
        failure: columns.raw("failure")?,
    };
    let payers = Payers {
        owner: columns.text("owner")?,
        repository: columns.text("repository")?,
        daemon: columns.text("daemon")?,
        branch: columns.text("branch")?,
        author: columns.text("author")?,
        pull_request: columns.raw("pull_request")?,
    };
    Ok(Entry {
        id,
        run: columns.parsed("run")?,
        run_attempt: columns.number("run_attempt")?,
        stage: StagePath::stored(columns.text("stage")?),
        payers,
        call,
        standing,
        at,
    })
}

fn tokens(columns: &Columns<'_>) -> Result<Tokens, StoreError> {
    Ok(Tokens {
        input: columns.number("input")?,
        cache_read: columns.number("cache_read")?,
        cache_write: columns.number("cache_write")?,
        output: columns.number("output")?,
        reasoning: columns.number("reasoning")?,
    })
}

fn spend(row: &SqliteRow) -> Result<Spend, StoreError> {
    let columns = Columns(row);
    let amount = |name| row.try_get(name).map(NanoUsd::from_nanos).map_err(failed);
    Ok(Spend {
        key: columns.text("key")?,
        calls: columns.number("calls")?,
        failed: columns.number("failed")?,
        unpriced: columns.number("unpriced")?,
        estimated: columns.number("estimated")?,
        tokens: tokens(&columns)?,
        cost: amount("cost")?,
        failed_cost: amount("failed_cost")?,
        compared: columns.number("compared")?,
        compared_cost: amount("compared_cost")?,
        dearest_cost: amount("dearest_cost")?,
    })
}

fn budget(row: &SqliteRow) -> Result<Budget, StoreError> {
    let columns = Columns(row);
    let ended_by: Option<String> = columns.raw("ended_by")?;
    Ok(Budget {
        scope: columns.word("scope")?,
        subject: columns.raw("subject")?,
        period: columns.word("period")?,
        limit: NanoUsd::from_nanos(columns.raw("amount")?),
        origin: Origin::Set {
            id: columns.parsed("id")?,
            by: columns.text("set_by")?,
            at: columns.time("set_at")?,
            ended: ended_by.zip(columns.time_if("ended_at")?),
        },
    })
}

fn alert(row: &SqliteRow) -> Result<Alert, StoreError> {
    let columns = Columns(row);
    let limit = Limit {
        scope: columns.word("scope")?,
        subject: columns.text("subject")?,
        repository: columns.text("repository")?,
        window: Window {
            period: columns.word("period")?,
            key: columns.text("period_key")?,
            from: columns.time("starts_at")?,
            until: columns.time_if("ends_at")?,
        },
        amount: NanoUsd::from_nanos(columns.raw("amount")?),
    };
    Ok(Alert {
        limit,
        percent: columns.number("percent")?,
        spent: NanoUsd::from_nanos(columns.raw("spent")?),
        run: columns.parsed("run")?,
        at: columns.time("at")?,
    })
}
