//! People, programs, and the tokens by which they are known.

use async_trait::async_trait;
use domain::access::{Account, Token};
use domain::id::{AccountId, TokenId};
use domain::time::Timestamp;

use super::{Recorded, StoreError};

/// Accounts and tokens.
#[async_trait]
pub trait Accounts {
    /// Adds an account; when its name is taken, says by which.
    async fn account_create(&self, account: &Account) -> Result<Recorded<Account>, StoreError>;

    /// The account of a name; letters are compared without case.
    async fn account_find(&self, name: &str) -> Result<Option<Account>, StoreError>;

    /// All accounts, sorted by name.
    async fn account_list(&self) -> Result<Vec<Account>, StoreError>;

    /// Adds a token.
    async fn token_create(&self, token: &Token) -> Result<(), StoreError>;

    /// The token with this hash, if it has not expired, and its account.
    async fn token_find(
        &self,
        hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Token, Account)>, StoreError>;

    /// Uses up a token that is good once; false when somebody else was first.
    async fn token_consume(&self, token: TokenId) -> Result<bool, StoreError>;

    /// The tokens of an account, newest first.
    async fn token_list(&self, account: AccountId) -> Result<Vec<Token>, StoreError>;

    /// Ends a token; false when there is none.
    async fn token_revoke(&self, token: TokenId) -> Result<bool, StoreError>;

    /// Records that an assertion of another issuer was used, by its hash; false when it was before. It is kept
    /// in mind until `until`, after which it must not hold any more.
    async fn assertion_use(&self, hash: &[u8; 32], until: Timestamp) -> Result<bool, StoreError>;

    /// Forgets tokens and assertions that do not hold since `before`; says how many.
    async fn expired_forget(&self, before: Timestamp) -> Result<u64, StoreError>;
}
