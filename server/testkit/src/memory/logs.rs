use async_trait::async_trait;
use domain::id::RunId;
use ports::store::logs::{LogLine, NewLine};
use ports::store::{Fenced, LeaseProof, Logs, StoreError, Topic};

use super::MemoryStore;

#[async_trait]
impl Logs for MemoryStore {
    async fn log_append(&self, proof: &LeaseProof, lines: &[NewLine]) -> Result<Fenced, StoreError> {
        let mut state = self.state();
        let Some(entry) = state.held(proof) else { return Ok(Fenced::Lost) };
        for line in lines {
            entry.numbered += 1;
            entry.lines.push(LogLine { number: entry.numbered, line: line.clone() });
        }
        drop(state);
        self.wake(&[Topic::Logs]);
        Ok(Fenced::Written)
    }

    async fn log_read(&self, run: RunId, after: u64, most: u32) -> Result<Vec<LogLine>, StoreError> {
        let state = self.state();
        let lines = state.runs.get(&run).map(|entry| entry.lines.as_slice()).unwrap_or_default();
        Ok(lines.iter().filter(|line| line.number > after).take(most as usize).cloned().collect())
    }

    async fn log_remove(&self, run: RunId) -> Result<(), StoreError> {
        if let Some(entry) = self.state().runs.get_mut(&run) {
            entry.lines.clear();
        }
        self.wake(&[Topic::Logs]);
        Ok(())
    }
}
