use async_trait::async_trait;
use domain::ledger::Entry;
use domain::memo::{
    ALL_VARIABLES, Expected, MOST_SESSIONS, MOST_VARIABLES, Memo, MemoKey, MemoKind, MemoOwner, MemoWrite,
};
use domain::stage::StageRecord;
use domain::time::Timestamp;
use ports::store::memos::Kept;
use ports::store::{LeaseProof, Memos, StoreError, Topic};

use super::{MemoryStore, State};

#[async_trait]
impl Memos for MemoryStore {
    async fn memo_get(&self, key: &MemoKey) -> Result<Option<Memo>, StoreError> {
        Ok(self.state().memos.get(key).cloned())
    }

    async fn memo_list(&self, owner: &MemoOwner, kind: MemoKind) -> Result<Vec<Memo>, StoreError> {
        let state = self.state();
        let own = state.memos.values().filter(|memo| memo.key.owner == *owner && memo.key.kind == kind);
        Ok(own.cloned().collect())
    }

    async fn memo_put(&self, write: &MemoWrite) -> Result<Kept, StoreError> {
        let mut state = self.state();
        state.refuse_unknown_repository(write.key.owner.repository)?;
        Ok(state.put(write))
    }

    async fn memo_remove(&self, key: &MemoKey, expected: Expected) -> Result<Kept, StoreError> {
        let mut state = self.state();
        let known = state.memos.get(key);
        if !expected.holds(known.map(|memo| memo.written)) {
            return Ok(Kept::Conflict(key.clone(), known.cloned().map(Box::new)));
        }
        state.memos.remove(key);
        Ok(Kept::Written)
    }

    async fn stage_keep(
        &self,
        proof: &LeaseProof,
        record: &StageRecord,
        calls: &[Entry],
        writes: &[MemoWrite],
    ) -> Result<Kept, StoreError> {
        let mut state = self.state();
        let Some(entry) = state.held(proof) else { return Ok(Kept::Lost) };
        if entry.has(record) {
            return Ok(Kept::Written);
        }
        let before = state.memos.clone();
        for write in writes {
            let kept = state.put(write);
            if kept != Kept::Written {
                state.memos = before;
                return Ok(kept);
            }
        }
        if let Some(entry) = state.held(proof) {
            entry.record(record);
        }
        state.record_calls(calls);
        drop(state);
        self.wake(&[Topic::Runs]);
        Ok(Kept::Written)
    }

    async fn session_expire(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut state = self.state();
        let there = state.memos.len();
        state.memos.retain(|key, memo| key.kind != MemoKind::Session || memo.at >= before);
        Ok((there - state.memos.len()) as u64)
    }
}

impl State {
    fn put(&mut self, write: &MemoWrite) -> Kept {
        let MemoWrite { key, expected, written, sealed, size, by, at } = write.clone();
        let known = self.memos.get(&key);
        if !expected.holds(known.map(|memo| memo.written)) {
            return Kept::Conflict(key, known.cloned().map(Box::new));
        }
        let others = self.memos.values().filter(|memo| {
            memo.key.owner == key.owner && memo.key.kind == key.kind && memo.key.name != key.name
        });
        match key.kind {
            MemoKind::Variable => {
                let (number, bytes) =
                    others.fold((0, 0), |(number, bytes), memo| (number + 1, bytes + memo.size));
                if number >= MOST_VARIABLES || bytes + size > ALL_VARIABLES {
                    return Kept::Full(key);
                }
            }
            MemoKind::Session => {
                let mut ages: Vec<_> = others.map(|memo| (memo.at, memo.key.clone())).collect();
                ages.sort();
                let excess = (ages.len() + 1).saturating_sub(MOST_SESSIONS);
                for (_, stale) in &ages[..excess] {
                    self.memos.remove(stale);
                }
            }
        }
        let version = self.memos.get(&key).map_or(0, |memo| memo.version) + 1;
        self.memos.insert(key.clone(), Memo { key, written, version, sealed, size, by, at });
        Kept::Written
    }
}
