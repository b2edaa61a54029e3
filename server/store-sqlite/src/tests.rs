//! The promises of the port, and those that only a file can break.

use testkit::conformance::store::Fresh;

use crate::SqliteStore;

mod budgets;
mod files;
mod plans;
mod upgrades;

async fn fresh() -> Fresh {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let store = SqliteStore::open(&directory.path().join("spellbook.db")).await.expect("a new store opens");
    Fresh::keeping(store, directory)
}

testkit::store_conformance!(fresh);
