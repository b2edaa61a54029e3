//! Which stage waits for which.

use super::Check;
use crate::codes;
use crate::diagnostic::Problem;
use crate::raw::scalar::Line;
use crate::raw::stage::Stage;
use crate::read::Slot;
use crate::suggest::{did_you_mean, quoted};

/// The stages of one list, by number, and whom each waits for.
#[derive(Debug)]
pub(super) struct Graph {
    /// Right before each.
    pub(super) needs: Vec<Vec<usize>>,
    /// Everything before each, through others: a row of bits.
    before: Vec<Vec<bool>>,
}

impl Graph {
    /// Whether `earlier` has ended when `later` begins.
    pub(super) fn is_before(&self, earlier: usize, later: usize) -> bool {
        self.before.get(later).and_then(|row| row.get(earlier)).copied().unwrap_or(false)
    }
}

impl Check<'_> {
    /// Resolves `needs` of all stages of a list; `None` for a stage that could not be read.
    pub(super) fn graph(&mut self, stages: &[Slot<Stage>]) -> Graph {
        let names: Vec<Option<&str>> =
            stages.iter().map(|stage| Some(stage.get()?.name.get()?.0.as_str())).collect();
        let needs: Vec<Vec<usize>> =
            stages.iter().enumerate().map(|(index, stage)| self.needs_of(index, stage, &names)).collect();
        let before = match order(&needs) {
            Ok(order) => reach(&needs, &order),
            Err(cycle) => {
                self.report_cycle(&cycle, stages, &names);
                // Everything counts as earlier, so that one mistake is not reported many times.
                vec![vec![true; stages.len()]; stages.len()]
            }
        };
        Graph { needs, before }
    }

    fn needs_of(&mut self, index: usize, stage: &Slot<Stage>, names: &[Option<&str>]) -> Vec<usize> {
        let Some(stage) = stage.get().filter(|stage| stage.needs.is_written()) else {
            return index.checked_sub(1).into_iter().collect();
        };
        let mut needs = Vec::new();
        for (Line(name), place) in
            stage.needs.get().map_or(&[][..], |list| &list.0).iter().filter_map(Slot::found)
        {
            match names.iter().position(|known| *known == Some(name)) {
                Some(found) if needs.contains(&found) => {}
                Some(found) => needs.push(found),
                None => {
                    let known = names.iter().flatten().copied();
                    let problem =
                        Problem::error(&codes::UNKNOWN_STAGE, format!("there is no stage {}", quoted(name)));
                    self.reader.report(problem.maybe_help(did_you_mean(name, known)), place);
                }
            }
        }
        needs
    }

    fn report_cycle(&mut self, cycle: &[usize], stages: &[Slot<Stage>], names: &[Option<&str>]) {
        let shown: Vec<String> = cycle
            .iter()
            .chain(cycle.first())
            .map(|index| quoted(names.get(*index).copied().flatten().unwrap_or("?")))
            .collect();
        let place = cycle.iter().find_map(|index| {
            let stage = stages.get(*index)?;
            stage.get().and_then(|stage| stage.needs.place()).or_else(|| stage.place())
        });
        if let Some(place) = place {
            let message = format!("these stages wait for one another: {}", shown.join(" → "));
            self.reader.report(Problem::error(&codes::CYCLE, message), place);
        }
    }
}

/// An order in which every stage comes after those it waits for (Kahn, 1962), or stages that form a circle.
fn order(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut done = vec![false; needs.len()];
    let mut order = Vec::with_capacity(needs.len());
    loop {
        let ready = |index: &usize| !done[*index] && needs[*index].iter().all(|need| done[*need]);
        let next: Vec<usize> = (0..needs.len()).filter(ready).collect();
        if next.is_empty() {
            break;
        }
        for index in next {
            done[index] = true;
            order.push(index);
        }
    }
    match done.iter().position(|done| !done) {
        None => Ok(order),
        Some(stuck) => Err(circle(needs, &done, stuck)),
    }
}

/// Walks from a stage that cannot begin to one that holds it up, until a stage comes a second time.
fn circle(needs: &[Vec<usize>], done: &[bool], start: usize) -> Vec<usize> {
    let mut path = vec![start];
    loop {
        let last = path[path.len() - 1];
        let Some(next) = needs[last].iter().copied().find(|need| !done[*need]) else { return path };
        if let Some(first) = path.iter().position(|seen| *seen == next) {
            return path.split_off(first);
        }
        path.push(next);
    }
}

/// For each stage, all that come before it.
fn reach(needs: &[Vec<usize>], order: &[usize]) -> Vec<Vec<bool>> {
    let mut before = vec![vec![false; needs.len()]; needs.len()];
    for index in order {
        let mut row = vec![false; needs.len()];
        for need in &needs[*index] {
            row[*need] = true;
            row.iter_mut().zip(&before[*need]).for_each(|(bit, earlier)| *bit |= earlier);
        }
        before[*index] = row;
    }
    before
}
