//! Accounts and tokens.

use std::time::Duration;

use domain::access::{Account, Reach, Role, Token};
use domain::id::{AccountId, TokenId};
use ports::clock::Clock;
use ports::store::{Recorded, Store, StoreError};

use super::scene::ANSWERS;
use crate::FixedClock;

fn account(clock: &FixedClock, name: &str) -> Account {
    Account {
        id: AccountId::new(clock.unique()),
        name: name.to_owned(),
        role: Role::Maintainer,
        created_at: clock.now(),
    }
}

fn token(clock: &FixedClock, account: &Account, hash: u8) -> Token {
    Token {
        id: TokenId::new(clock.unique()),
        account: account.id,
        label: "laptop 'é'".to_owned(),
        hash: [hash; 32],
        role: Role::Runner,
        once: false,
        reach: None,
        created_at: clock.now(),
        expires_at: None,
    }
}

async fn created(store: &dyn Store, clock: &FixedClock, name: &str) -> Account {
    let account = account(clock, name);
    assert_eq!(store.account_create(&account).await.expect(ANSWERS), Recorded::New);
    account
}

/// A name belongs to the first who takes it, however it is written; accounts are listed by name.
pub async fn a_name_is_taken_once(store: &dyn Store, clock: &FixedClock) {
    let bob = created(store, clock, "bob").await;
    let ada = created(store, clock, "Ada").await;
    for name in ["Ada", "ada", "ADA"] {
        let known = store.account_create(&account(clock, name)).await.expect(ANSWERS);
        assert_eq!(known, Recorded::Known(ada.clone()));
        assert_eq!(store.account_find(name).await.expect(ANSWERS), Some(ada.clone()));
    }
    assert_eq!(store.account_find("eve").await.expect(ANSWERS), None);
    assert_eq!(store.account_list().await.expect(ANSWERS), [ada.clone(), bob]);
    assert!(
        store.account_create(&Account { name: "eve".to_owned(), ..ada }).await.is_err(),
        "the same id twice"
    );
}

/// A token is found by its hash until it expires.
pub async fn a_token_is_found_until_it_expires(store: &dyn Store, clock: &FixedClock) {
    let ada = created(store, clock, "ada").await;
    let at = clock.now().after(Duration::from_secs(60));
    let brief = Token { expires_at: Some(at), ..token(clock, &ada, 1) };
    let reach = Some(Reach::new(vec!["ada/**".to_owned(), "!ada/'book'/é".to_owned()]));
    let lasting = Token { reach, ..token(clock, &ada, 2) };
    for token in [&brief, &lasting] {
        store.token_create(token).await.expect(ANSWERS);
    }
    let find = async |hash: u8| store.token_find(&[hash; 32], clock.now()).await.expect(ANSWERS);
    assert_eq!(find(1).await, Some((brief.clone(), ada.clone())));
    assert_eq!(find(9).await, None);
    clock.set(at);
    assert_eq!(find(1).await, None);
    assert_eq!(find(2).await, Some((lasting.clone(), ada.clone())));
    assert_eq!(store.token_list(ada.id).await.expect(ANSWERS), [lasting, brief]);
}

/// A token of nobody, or with another's hash, is refused.
pub async fn a_token_belongs_to_an_account(store: &dyn Store, clock: &FixedClock) {
    let ada = created(store, clock, "ada").await;
    store.token_create(&token(clock, &ada, 1)).await.expect(ANSWERS);
    for bad in [token(clock, &ada, 1), token(clock, &account(clock, "nobody"), 2)] {
        assert!(matches!(store.token_create(&bad).await, Err(StoreError::Conflict(_))));
    }
}

/// A token that is good once is used up by one of many, and is gone then.
pub async fn a_token_that_is_good_once_is_used_once(store: &dyn Store, clock: &FixedClock) {
    let ada = created(store, clock, "ada").await;
    let once = Token { once: true, ..token(clock, &ada, 1) };
    let lasting = token(clock, &ada, 2);
    for token in [&once, &lasting] {
        store.token_create(token).await.expect(ANSWERS);
    }
    let used = futures::future::join_all((0..20).map(|_| store.token_consume(once.id))).await;
    assert_eq!(used.into_iter().filter(|used| matches!(used, Ok(true))).count(), 1);
    assert_eq!(store.token_find(&[1; 32], clock.now()).await.expect(ANSWERS), None);
    assert!(!store.token_consume(lasting.id).await.expect(ANSWERS), "a lasting token is not used up");
    assert!(store.token_find(&[2; 32], clock.now()).await.expect(ANSWERS).is_some());
}

/// A revoked token is gone.
pub async fn a_revoked_token_is_gone(store: &dyn Store, clock: &FixedClock) {
    let ada = created(store, clock, "ada").await;
    let token = token(clock, &ada, 1);
    store.token_create(&token).await.expect(ANSWERS);
    assert!(store.token_revoke(token.id).await.expect(ANSWERS));
    assert!(!store.token_revoke(token.id).await.expect(ANSWERS));
    assert_eq!(store.token_find(&[1; 32], clock.now()).await.expect(ANSWERS), None);
    assert!(store.token_list(ada.id).await.expect(ANSWERS).is_empty());
}

/// An assertion is used by one of many, and once again only when it was forgotten.
pub async fn an_assertion_is_used_once(store: &dyn Store, clock: &FixedClock) {
    let until = clock.now().after(Duration::from_secs(60));
    let used = futures::future::join_all((0..20).map(|_| store.assertion_use(&[1; 32], until))).await;
    assert_eq!(used.into_iter().filter(|used| matches!(used, Ok(true))).count(), 1);
    assert!(store.assertion_use(&[2; 32], until.after(Duration::from_secs(1))).await.expect(ANSWERS));
    assert_eq!(store.expired_forget(clock.now()).await.expect(ANSWERS), 0);
    assert!(!store.assertion_use(&[1; 32], until).await.expect(ANSWERS));
    assert_eq!(store.expired_forget(until).await.expect(ANSWERS), 1);
    assert!(store.assertion_use(&[1; 32], until).await.expect(ANSWERS));
    assert!(!store.assertion_use(&[2; 32], until).await.expect(ANSWERS));
}

/// Tokens that have expired are forgotten; others are not.
pub async fn expired_tokens_are_forgotten(store: &dyn Store, clock: &FixedClock) {
    let ada = created(store, clock, "ada").await;
    let at = clock.now().after(Duration::from_secs(60));
    let brief = Token { expires_at: Some(at), ..token(clock, &ada, 1) };
    let longer = Token { expires_at: Some(at.after(Duration::from_secs(1))), ..token(clock, &ada, 2) };
    let lasting = token(clock, &ada, 3);
    for token in [&brief, &longer, &lasting] {
        store.token_create(token).await.expect(ANSWERS);
    }
    assert_eq!(store.expired_forget(at).await.expect(ANSWERS), 1);
    assert_eq!(store.token_list(ada.id).await.expect(ANSWERS), [lasting, longer]);
}
