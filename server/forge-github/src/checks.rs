//! Reporting on a commit, with remarks on lines in as many requests as they need.

use domain::effect::{Annotation, AnnotationLevel, CheckConclusion, EffectKind, Receipt};
use domain::marker::Marker;
use domain::name::Commit;
use forge_remote::wanted::said;
use forge_remote::{Failure, Wanted, escaped};
use serde_json::{Value, json};

use crate::shape::{number, text};
use crate::visit::Visit;

/// GitHub takes so many remarks at once.
const AT_ONCE: usize = 50;
/// Nobody reads more of them; what is left out is said.
const MOST_REMARKS: usize = 1_000;
const LONGEST_REMARK: usize = 10_000;

/// Reports.
pub(crate) async fn report(visit: &Visit<'_>, wanted: &Wanted<'_>) -> Result<Receipt, Failure> {
    Reporter { visit, wanted }.check().await
}

/// Who reports.
struct Reporter<'a> {
    visit: &'a Visit<'a>,
    wanted: &'a Wanted<'a>,
}

/// A report as it is to be.
struct Report<'a> {
    commit: &'a Commit,
    name: &'a str,
    conclusion: CheckConclusion,
    summary: String,
    remarks: &'a [Annotation],
}

impl Reporter<'_> {
    /// Reports. GitHub shows the newest report of a name, so that a new one takes the place of an older.
    async fn check(&self) -> Result<Receipt, Failure> {
        let EffectKind::CreateCheck { commit, name, conclusion, summary, annotations } =
            &self.wanted.effect.kind
        else {
            return Err(Failure::Refused("it is not a check".to_owned()));
        };
        let remarks = &annotations[..annotations.len().min(MOST_REMARKS)];
        let left_out = annotations.len() - remarks.len();
        let more = if left_out > 0 { format!("\n\n… and {left_out} more remarks.") } else { String::new() };
        let summary = self.wanted.signed(&format!("{summary}{more}"));
        let report = Report { commit, name, conclusion: *conclusion, summary, remarks };
        let there = self.our_checks(&report).await?;
        let is_later = |check: &&Value| {
            Marker::find(said(check, "/output/summary"))
                .is_some_and(|marker| marker.outdates(self.wanted.effect))
        };
        if let Some(later) = there.iter().find(is_later) {
            return Ok(receipt(later, &report, "a later run has reported already on"));
        }
        let id = self.wanted.effect.id.to_string();
        let mut check = match there.into_iter().find(|check| said(check, "/external_id") == id) {
            Some(check) => check,
            None => self.visit.post("/check-runs", &self.first_part(&report, &id)).await?,
        };
        let check_id = number(&check, "/id").ok_or_else(|| Failure::later("the check has no number"))?;
        while count(&check) < report.remarks.len() {
            let before = count(&check);
            let next = json!({ "output": output(&report, before) });
            check = self.visit.patch(&format!("/check-runs/{check_id}"), &next).await?;
            if count(&check) <= before {
                return Err(Failure::later("the remarks of the check are not there"));
            }
        }
        self.verify_check(check_id, &report).await
    }

    /// Our reports of this name on the commit. Only an app has any.
    async fn our_checks(&self, report: &Report<'_>) -> Result<Vec<Value>, Failure> {
        if self.visit.github.plain().is_some() {
            return Err(Failure::Refused(
                "GitHub takes checks from apps only, and this server has the token of an account; \
                 `set-status` works with it"
                    .to_owned(),
            ));
        }
        let name = escaped(report.name);
        let path = format!("/commits/{}/check-runs?check_name={name}&filter=all&per_page=100", report.commit);
        let list = self.visit.list_at(&path, "/check_runs").await?;
        let app = self.visit.own().and_then(|own| own.app);
        let is_ours = |check: &Value| {
            said(check, "/name") == report.name
                && number(check, "/app/id").is_none_or(|id| app.is_none_or(|app| app == id))
        };
        Ok(list.into_iter().filter(is_ours).collect())
    }

    fn first_part(&self, report: &Report<'_>, id: &str) -> Value {
        json!({
            "name": report.name, "head_sha": report.commit.as_str(), "external_id": id,
            "status": "completed", "conclusion": conclusion(report.conclusion),
            "output": output(report, 0),
        })
    }

    async fn verify_check(&self, id: u64, report: &Report<'_>) -> Result<Receipt, Failure> {
        let check = self.visit.get(&format!("/check-runs/{id}")).await?;
        let stands = said(&check, "/conclusion") == conclusion(report.conclusion)
            && said(&check, "/head_sha") == report.commit.as_str()
            && count(&check) >= report.remarks.len();
        if stands {
            Ok(receipt(&check, report, "reported on").says(&report.summary))
        } else {
            Err(Failure::later("the check is not there as it was made"))
        }
    }
}

fn receipt(check: &Value, report: &Report<'_>, verb: &str) -> Receipt {
    let url = text(check, "/html_url").map(str::to_owned);
    Receipt::new(url, format!("{verb} {}: {}", &report.commit.as_str()[..12], report.name))
}

/// How many remarks GitHub has of it.
fn count(check: &Value) -> usize {
    number(check, "/output/annotations_count").and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

/// What is shown, with the next of the remarks: GitHub adds those of a request to those before.
fn output(report: &Report<'_>, from: usize) -> Value {
    let part = &report.remarks[from.min(report.remarks.len())..];
    let remarks: Vec<Value> = part.iter().take(AT_ONCE).map(remark).collect();
    json!({ "title": title(report), "summary": report.summary, "annotations": remarks })
}

fn title(report: &Report<'_>) -> String {
    match report.remarks.len() {
        0 => report.name.to_owned(),
        1 => "One remark".to_owned(),
        count => format!("{count} remarks"),
    }
}

fn remark(remark: &Annotation) -> Value {
    let level = match remark.level {
        AnnotationLevel::Notice => "notice",
        AnnotationLevel::Warning => "warning",
        AnnotationLevel::Failure => "failure",
    };
    let start = remark.start_line.max(1);
    json!({
        "path": remark.path, "start_line": start, "end_line": remark.end_line.max(start),
        "annotation_level": level, "message": remark.message.chars().take(LONGEST_REMARK).collect::<String>(),
    })
}

const fn conclusion(conclusion: CheckConclusion) -> &'static str {
    match conclusion {
        CheckConclusion::Success => "success",
        CheckConclusion::Failure => "failure",
        CheckConclusion::Neutral => "neutral",
    }
}
