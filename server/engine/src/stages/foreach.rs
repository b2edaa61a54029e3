//! `foreach`: stages for each item of a list, several items at once. Every inner stage has an entry of
//! its own in the journal, so that a crash repeats no item that was done.

use domain::run::Failure;
use domain::value::Value;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use manifest::model::ForeachStage;
use serde_json::{Value as Json, json};

use super::{At, Ended, Made, Trouble};
use crate::graph::{Graph, Place};
use crate::stop::Under;

/// The most items of one list.
const MOST: usize = 1_000;

/// Runs the stages for each item; the value is the list of what the last of them made for each. Stages
/// may hold stages, so that somewhere on the way round the future must be boxed: here.
pub(super) fn run<'a>(stage: &'a ForeachStage, at: &'a At<'a>) -> BoxFuture<'a, Ended> {
    Box::pin(each(stage, at))
}

async fn each(stage: &ForeachStage, at: &At<'_>) -> Ended {
    let list = match items(stage, at) {
        Ok(list) => list,
        Err(trouble) => return Made::from(trouble).into(),
    };
    let Json::Array(elements) = &list.json else { unreachable!("items gives a list") };
    let width = usize::try_from(stage.limit.max(1)).unwrap_or(1);
    let graphs = some_at_a_time(stage, at, &list, elements, width).await;
    if at.cancel.is_cancelled() {
        // Items that never began would otherwise count as done.
        return Made::failed(Failure::new("cancelled", "was cancelled")).into();
    }
    ended(&list, graphs)
}

/// Runs the stages for one item after another, so many at once; an item that waits for a run keeps its
/// place, so that no more runs are called at once either.
async fn some_at_a_time(
    stage: &ForeachStage,
    at: &At<'_>,
    list: &Value,
    elements: &[Json],
    width: usize,
) -> Vec<Graph> {
    let mut next = elements.iter().enumerate();
    let mut running = FuturesUnordered::new();
    let mut graphs: Vec<(usize, Graph)> = Vec::with_capacity(elements.len());
    loop {
        let waiting = graphs.iter().filter(|(_, graph)| graph.waits.is_some()).count();
        while !at.cancel.is_cancelled()
            && running.len() + waiting < width
            && let Some((index, item)) = next.next()
        {
            let item = Value { json: item.clone(), taint: list.taint };
            let context = at.context.with(&stage.variable, item);
            let under = Under { turn: at.turn, cancel: &at.cancel };
            let place = Place::Item { list: at.path, index };
            let graph: BoxFuture<'_, Graph> = Box::pin(at.run.graph(&stage.stages, place, context, under));
            running.push(async move { (index, graph.await) });
        }
        let Some(done) = running.next().await else { break };
        graphs.push(done);
    }
    graphs.sort_by_key(|(index, _)| *index);
    graphs.into_iter().map(|(_, graph)| graph).collect()
}

fn items(stage: &ForeachStage, at: &At<'_>) -> Result<Value, Trouble> {
    let list = stage.items.evaluate(at.context)?;
    match &list.json {
        Json::Array(items) if items.len() <= MOST => Ok(list),
        Json::Array(items) => {
            let message = format!("`items` has {} entries; at most {MOST} are allowed", items.len());
            Err(Failure::new("too_many_items", message).into())
        }
        other => {
            let kind = match other {
                Json::Null => "null",
                Json::Bool(_) => "true or false",
                Json::Number(_) => "a number",
                Json::String(_) => "text; use fromJSON() if it holds a list",
                Json::Array(_) | Json::Object(_) => "an object",
            };
            let message = format!("`items: {}` is not a list but {kind}", stage.items.source());
            Err(Failure::new("items_invalid", message).into())
        }
    }
}

fn ended(list: &Value, graphs: Vec<Graph>) -> Ended {
    if graphs.iter().any(|graph| graph.waits.is_some()) {
        return Ended::Waits(graphs.into_iter().filter_map(|graph| graph.waits).flatten().collect());
    }
    let changed = graphs.iter().any(|graph| graph.context.changed);
    let mut made = Made { changed: Some(changed), ..Made::default() };
    let mut results = Vec::new();
    let mut taint = list.taint;
    for graph in &graphs {
        let output = graph.last_output();
        taint = taint.with(output.as_ref().map_or(taint, |value| value.taint));
        results.push(output.map_or(Json::Null, |value| value.json));
    }
    let failures: Vec<_> = graphs.iter().filter_map(Graph::failure).collect();
    if let Some(first) = failures.first() {
        let message = format!("{} of {} items failed; the first: {first}", failures.len(), graphs.len());
        made.trouble = Some(Failure::new("items_failed", message).into());
    }
    made.result = Some(Value { json: json!(results), taint });
    made.into()
}
