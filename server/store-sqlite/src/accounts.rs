//! Accounts and tokens.

use async_trait::async_trait;
use domain::access::{Account, Token};
use domain::id::{AccountId, TokenId};
use domain::time::Timestamp;
use ports::store::{Accounts, Recorded, StoreError};
use sqlx::sqlite::SqliteConnection;

use crate::SqliteStore;
use crate::failure::failed;
use crate::rows::{self, Columns, each};
use crate::store::Durable;

#[async_trait]
impl Accounts for SqliteStore {
    async fn account_create(&self, account: &Account) -> Result<Recorded<Account>, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        if let Some(known) = named(&mut transaction, &account.name).await? {
            return Ok(Recorded::Known(known));
        }
        sqlx::query(
            "INSERT INTO accounts (id, name, name_key, role, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(account.id.to_string())
        .bind(&account.name)
        .bind(account.name.to_lowercase())
        .bind(account.role.as_str())
        .bind(account.created_at.millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        self.commit(transaction, &[]).await?;
        Ok(Recorded::New)
    }

    async fn account_find(&self, name: &str) -> Result<Option<Account>, StoreError> {
        let mut connection = self.reader().acquire().await.map_err(failed)?;
        named(&mut connection, name).await
    }

    async fn account_list(&self) -> Result<Vec<Account>, StoreError> {
        let rows = sqlx::query("SELECT * FROM accounts ORDER BY name_key")
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::account)
    }

    async fn token_create(&self, token: &Token) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO tokens (id, account, label, hash, role, once, created_at, expires_at, reach)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(token.id.to_string())
        .bind(token.account.to_string())
        .bind(&token.label)
        .bind(&token.hash[..])
        .bind(token.role.as_str())
        .bind(i64::from(token.once))
        .bind(token.created_at.millis())
        .bind(token.expires_at.map(Timestamp::millis))
        .bind(token.reach.as_ref().map(rows::json).transpose()?)
        .execute(&mut *self.writer(Durable::Now).await?)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn token_find(
        &self,
        hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Token, Account)>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM tokens WHERE hash = $1 AND (expires_at IS NULL OR expires_at > $2)")
                .bind(&hash[..])
                .bind(now.millis())
                .fetch_optional(self.reader())
                .await
                .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let account = sqlx::query("SELECT * FROM accounts WHERE id = $1")
            .bind(Columns(&row).text("account")?)
            .fetch_one(self.reader())
            .await
            .map_err(failed)?;
        Ok(Some((rows::token(&row)?, rows::account(&account)?)))
    }

    async fn token_consume(&self, token: TokenId) -> Result<bool, StoreError> {
        let used = sqlx::query("DELETE FROM tokens WHERE id = $1 AND once = 1")
            .bind(token.to_string())
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        Ok(used.rows_affected() == 1)
    }

    async fn token_list(&self, account: AccountId) -> Result<Vec<Token>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tokens WHERE account = $1 ORDER BY id DESC")
            .bind(account.to_string())
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        each(&rows, rows::token)
    }

    async fn token_revoke(&self, token: TokenId) -> Result<bool, StoreError> {
        let revoked = sqlx::query("DELETE FROM tokens WHERE id = $1")
            .bind(token.to_string())
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        Ok(revoked.rows_affected() == 1)
    }

    async fn assertion_use(&self, hash: &[u8; 32], until: Timestamp) -> Result<bool, StoreError> {
        let used = sqlx::query("INSERT INTO assertions (hash, until) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(&hash[..])
            .bind(until.millis())
            .execute(&mut *self.writer(Durable::Now).await?)
            .await
            .map_err(failed)?;
        Ok(used.rows_affected() == 1)
    }

    async fn expired_forget(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut transaction = self.write(Durable::Now).await?;
        let mut forgotten = 0;
        for statement in
            ["DELETE FROM tokens WHERE expires_at <= $1", "DELETE FROM assertions WHERE until <= $1"]
        {
            let deleted = sqlx::query(statement).bind(before.millis()).execute(&mut *transaction).await;
            forgotten += deleted.map_err(failed)?.rows_affected();
        }
        self.commit(transaction, &[]).await?;
        Ok(forgotten)
    }
}

async fn named(connection: &mut SqliteConnection, name: &str) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query("SELECT * FROM accounts WHERE name_key = $1")
        .bind(name.to_lowercase())
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.as_ref().map(rows::account).transpose()
}
