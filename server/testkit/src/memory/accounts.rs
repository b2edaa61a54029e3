use async_trait::async_trait;
use domain::access::{Account, Token};
use domain::id::{AccountId, TokenId};
use domain::time::Timestamp;
use ports::store::{Accounts, Recorded, StoreError};

use super::{MemoryStore, State};

#[async_trait]
impl Accounts for MemoryStore {
    async fn account_create(&self, account: &Account) -> Result<Recorded<Account>, StoreError> {
        let mut state = self.state();
        if let Some(known) = state.named(&account.name) {
            return Ok(Recorded::Known(known.clone()));
        }
        if state.accounts.contains_key(&account.id) {
            return Err(StoreError::Conflict(format!("{} is there already", account.id)));
        }
        state.accounts.insert(account.id, account.clone());
        Ok(Recorded::New)
    }

    async fn account_find(&self, name: &str) -> Result<Option<Account>, StoreError> {
        Ok(self.state().named(name).cloned())
    }

    async fn account_list(&self) -> Result<Vec<Account>, StoreError> {
        let mut accounts: Vec<_> = self.state().accounts.values().cloned().collect();
        accounts.sort_by_key(|account| account.name.to_lowercase());
        Ok(accounts)
    }

    async fn token_create(&self, token: &Token) -> Result<(), StoreError> {
        let mut state = self.state();
        if !state.accounts.contains_key(&token.account) {
            return Err(StoreError::Conflict(format!("there is no {}", token.account)));
        }
        if state.tokens.values().any(|known| known.id == token.id || known.hash == token.hash) {
            return Err(StoreError::Conflict(format!("{} is there already", token.id)));
        }
        state.tokens.insert(token.id, token.clone());
        Ok(())
    }

    async fn token_find(
        &self,
        hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Token, Account)>, StoreError> {
        let state = self.state();
        let valid = |token: &&Token| token.hash == *hash && token.expires_at.is_none_or(|at| at > now);
        let Some(token) = state.tokens.values().find(valid) else { return Ok(None) };
        Ok(state.accounts.get(&token.account).map(|account| (token.clone(), account.clone())))
    }

    async fn token_consume(&self, token: TokenId) -> Result<bool, StoreError> {
        let mut state = self.state();
        let once = state.tokens.get(&token).is_some_and(|token| token.once);
        Ok(once && state.tokens.remove(&token).is_some())
    }

    async fn token_list(&self, account: AccountId) -> Result<Vec<Token>, StoreError> {
        Ok(self.state().tokens.values().rev().filter(|token| token.account == account).cloned().collect())
    }

    async fn token_revoke(&self, token: TokenId) -> Result<bool, StoreError> {
        Ok(self.state().tokens.remove(&token).is_some())
    }

    async fn assertion_use(&self, hash: &[u8; 32], until: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.state();
        let new = !state.assertions.contains_key(hash);
        state.assertions.entry(*hash).or_insert(until);
        Ok(new)
    }

    async fn expired_forget(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut state = self.state();
        let count = |state: &State| state.tokens.len() + state.assertions.len();
        let all = count(&state);
        state.tokens.retain(|_, token| token.expires_at.is_none_or(|at| at > before));
        state.assertions.retain(|_, until| *until > before);
        Ok((all - count(&state)) as u64)
    }
}

impl State {
    fn named(&self, name: &str) -> Option<&Account> {
        let key = name.to_lowercase();
        self.accounts.values().find(|account| account.name.to_lowercase() == key)
    }
}
