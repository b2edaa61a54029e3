//! `rules`: a decision table. The first row whose `when` holds decides.

use domain::run::Failure;
use domain::value::Taint;
use manifest::expression::EvaluationError;
use manifest::model::Rule;

use super::{At, Made, Trouble};

/// Decides, and hands on the decision.
pub(super) fn decide(rules: &[Rule], at: &At<'_>) -> Made {
    match first(rules, at) {
        Ok(Some(made)) => made,
        Ok(None) => Made::failed(Failure::new(
            "no_rule_holds",
            "none of the rules holds; add a last one without `when` for everything else",
        )),
        Err(error) => Trouble::from(error).into(),
    }
}

/// The decision of the first row that holds. Conditions that were looked at are part of the decision,
/// so it is as tainted as they are.
fn first(rules: &[Rule], at: &At<'_>) -> Result<Option<Made>, EvaluationError> {
    let mut taint = Taint::Trusted;
    for (number, rule) in (1..).zip(rules) {
        let holds = match &rule.when {
            None => true,
            Some(when) => {
                let value = when.evaluate(at.context)?;
                taint = taint.with(value.taint);
                manifest::expression::is_true(&value)
            }
        };
        if holds {
            let mut value = at.json(&rule.then)?;
            let why = rule.when.as_ref().map_or("always", |when| when.source());
            at.note(format!("rule {number} of {} decides: {why}", rules.len()));
            value.taint = value.taint.with(taint);
            return Ok(Some(Made::value(value)));
        }
    }
    Ok(None)
}
