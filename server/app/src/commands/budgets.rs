//! `spellbook budgets`: what may be spent on models, and what of it is gone.

use serde::Deserialize;
use serde_json::json;

use crate::cli::Global;
use crate::cli::money::{BudgetsArgs, BudgetsCommand, BudgetsListArgs, BudgetsSetArgs};
use crate::client::answers::{Money, Part};
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// Lists, sets or removes.
pub(crate) async fn run(args: &BudgetsArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    match &args.command {
        BudgetsCommand::List(BudgetsListArgs { history: false }) => list(&client, ui).await?,
        BudgetsCommand::List(BudgetsListArgs { history: true }) => history(&client, ui).await?,
        BudgetsCommand::Set(args) => set(&client, args, ui).await?,
        BudgetsCommand::Remove(args) => {
            let removed = client.delete(&["budgets", &args.budget.to_string()], &[]).await?;
            if ui.is_json() {
                ui.document(&removed)?;
            } else {
                let budget: Budget = understood(removed)?;
                ui.line(format_args!("{} is no longer in force", budget.words()))?;
            }
        }
    }
    Ok(Exit::Ok)
}

async fn list(client: &Client, ui: &Ui) -> Result<(), CommandError> {
    let answer = client.get(&["budgets"], &[]).await?;
    if ui.is_json() {
        return ui.document(&answer);
    }
    let gauges: Part<Gauge> = understood(answer)?;
    if gauges.items.is_empty() {
        ui.note(format_args!(
            "no budgets on {}; set one: spellbook budgets set repository month 20",
            client.server()
        ));
        return Ok(());
    }
    let header = ["BUDGET", "SCOPE", "FOR", "PERIOD", "LIMIT", "SPENT", "RESERVED", "LEFT", "ALERTS"];
    ui.table(header, gauges.items.iter().flat_map(rows))
}

fn rows(gauge: &Gauge) -> Vec<[(Tone, String); 9]> {
    let budget = &gauge.budget;
    let plain = |text: &str| (Tone::Plain, text.to_owned());
    let row = |subject: &str, level: Option<&Level>| {
        let amount = |money: fn(&Level) -> &Money| plain(level.map_or("-", |level| &money(level).text));
        [
            (Tone::Dim, budget.id.clone().unwrap_or_else(|| "configuration".to_owned())),
            plain(&budget.scope),
            (Tone::Name, subject.to_owned()),
            plain(gauge.window.as_deref().unwrap_or(&budget.period)),
            plain(&budget.limit.text),
            amount(|level| &level.spent),
            amount(|level| &level.reserved),
            amount(|level| &level.left),
            alerts(level),
        ]
    };
    let mut rows: Vec<_> = gauge.levels.iter().map(|level| row(&level.subject, Some(level))).collect();
    if rows.is_empty() {
        rows.push(row(budget.subject.as_deref().unwrap_or("each"), None));
    }
    rows
}

fn alerts(level: Option<&Level>) -> (Tone, String) {
    let alerts = level.map(|level| level.alerts.as_slice()).unwrap_or_default();
    let tone = match alerts.iter().map(|alert| alert.percent).max() {
        Some(100..) => Tone::Bad,
        Some(_) => Tone::Odd,
        None => Tone::Dim,
    };
    let mut words: Vec<String> =
        alerts.iter().map(|alert| format!("{} % at {}", alert.percent, alert.at)).collect();
    words.sort();
    (tone, if words.is_empty() { "-".to_owned() } else { words.join(", ") })
}

async fn history(client: &Client, ui: &Ui) -> Result<(), CommandError> {
    let answer = client.get(&["budgets", "history"], &[]).await?;
    if ui.is_json() {
        return ui.document(&answer);
    }
    let budgets: Part<Budget> = understood(answer)?;
    let rows = budgets.items.iter().map(|budget| {
        let by = |who: &Option<String>, at: &Option<String>| match (who, at) {
            (Some(who), Some(at)) => (Tone::Plain, format!("{who} at {at}")),
            _ => (Tone::Dim, "-".to_owned()),
        };
        [
            (Tone::Dim, budget.id.clone().unwrap_or_default()),
            (Tone::Name, budget.words()),
            by(&budget.set_by, &budget.set_at),
            by(&budget.ended_by, &budget.ended_at),
        ]
    });
    ui.table(["BUDGET", "WHAT", "SET BY", "ENDED BY"], rows)
}

async fn set(client: &Client, args: &BudgetsSetArgs, ui: &Ui) -> Result<(), CommandError> {
    let body = json!({
        "scope": args.scope.as_str(),
        "subject": args.subject,
        "period": args.period.as_str(),
        "limit": args.limit.to_string(),
    });
    let set = client.post(&["budgets"], &body).await?;
    if ui.is_json() {
        return ui.document(&set);
    }
    let budget: Budget = understood(set)?;
    ui.line(format_args!("{} {}", budget.id.as_deref().unwrap_or_default(), budget.words()))
}

#[derive(Debug, Deserialize)]
struct Gauge {
    budget: Budget,
    window: Option<String>,
    levels: Vec<Level>,
}

#[derive(Debug, Deserialize)]
struct Budget {
    id: Option<String>,
    scope: String,
    subject: Option<String>,
    period: String,
    limit: Money,
    set_by: Option<String>,
    set_at: Option<String>,
    ended_by: Option<String>,
    ended_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Level {
    subject: String,
    spent: Money,
    reserved: Money,
    left: Money,
    alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
struct Alert {
    percent: u8,
    at: String,
}

impl Budget {
    fn words(&self) -> String {
        let each = match self.period.as_str() {
            "run" => "for each run of".to_owned(),
            "total" => "in all for".to_owned(),
            period => format!("a {period} for"),
        };
        let scope = self.scope.replace('_', " ");
        match &self.subject {
            Some(subject) => format!("{} {each} {scope} {subject}", self.limit.text),
            None => format!("{} {each} each {scope}", self.limit.text),
        }
    }
}
