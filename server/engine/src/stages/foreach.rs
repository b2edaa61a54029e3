//! `foreach`: stages for each item of a list, several items at once. Every inner stage has an entry of
//! its own in the journal, so that a crash repeats no item that was done.

use domain::run::Failure;
use domain::value::Value;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream;
use manifest::model::ForeachStage;
use serde_json::{Value as Json, json};

use super::{At, Ended, Made, Trouble};
use crate::execution::{Graph, Place};

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
    let mut each: Vec<BoxFuture<'_, Graph>> = Vec::with_capacity(elements.len());
    for (index, item) in elements.iter().enumerate() {
        let item = Value { json: item.clone(), taint: list.taint };
        let context = at.context.with(&stage.variable, item);
        let place = Place::Item { list: at.path, index };
        each.push(Box::pin(at.run.graph(&stage.stages, place, context, &at.cancel)));
    }
    let graphs: Vec<Graph> = stream::iter(each).buffered(width).collect().await;
    ended(&list, graphs)
}

fn items(stage: &ForeachStage, at: &At<'_>) -> Result<Value, Trouble> {
    let list = stage.items.evaluate(at.context)?;
    match &list.json {
        Json::Array(items) if items.len() <= MOST => Ok(list),
        Json::Array(items) => {
            let message = format!("`items` has {} entries; at most {MOST} are allowed", items.len());
            Err(Failure::new("too_many_items", message).into())
        }
        _ => Err(Failure::new("items_invalid", "`items` is not a list").into()),
    }
}

fn ended(list: &Value, graphs: Vec<Graph>) -> Ended {
    if graphs.iter().any(|graph| graph.waits.is_some()) {
        return Ended::Waits(graphs.into_iter().filter_map(|graph| graph.waits).flatten().collect());
    }
    let mut made = Made::default();
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
