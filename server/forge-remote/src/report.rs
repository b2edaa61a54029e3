//! A report on a commit, for forges that have none with remarks on lines: a status, and a comment that lists the
//! remarks where people look at the change.

use std::fmt::Write;

use domain::effect::{
    Annotation, AnnotationLevel, CheckConclusion, CommentTarget, EffectKind, Receipt, StatusState,
};

use crate::failure::Failure;
use crate::wanted::{Said, Wanted, status};

/// Nobody reads more of them in a comment; what is left out is said.
const MOST_REMARKS: usize = 200;

/// Reports. `pull` is the open pull request whose newest commit it is, when there is one.
///
/// # Errors
/// Says whether trying again may help.
pub async fn report(wanted: &Wanted<'_>, pull: Option<u64>) -> Result<Receipt, Failure> {
    let EffectKind::CreateCheck { commit, name, conclusion, summary, annotations } = &wanted.effect.kind
    else {
        return Err(Failure::Refused("it is not a check".to_owned()));
    };
    let short = &commit.as_str()[..12];
    let mut receipt = Receipt::new(None, "reported");
    if let Some(number) = pull {
        let text = told(name, *conclusion, summary, annotations);
        match wanted.say(&CommentTarget::Thread { number }, &text, true).await? {
            Said::There(said) => receipt = said,
            Said::Outdated(url) => {
                let summary = format!("a later run has reported already on {short}: {name}");
                return Ok(Receipt::new(url, summary));
            }
        }
    }
    let state = match conclusion {
        CheckConclusion::Success | CheckConclusion::Neutral => StatusState::Success,
        CheckConclusion::Failure => StatusState::Failure,
    };
    let line = headline(*conclusion, annotations.len());
    wanted
        .put_status(commit, &status(name, wanted.site.state_word(state), &line, receipt.url.as_deref()))
        .await?;
    let mut summary = format!("reported on {short}: {name}");
    if pull.is_none() && !annotations.is_empty() {
        summary.push_str(
            "; the remarks are on the page of the run, since no open pull request is at this commit",
        );
    }
    Ok(Receipt { summary, ..receipt })
}

/// `failure, 3 remarks`.
fn headline(conclusion: CheckConclusion, remarks: usize) -> String {
    let word = match conclusion {
        CheckConclusion::Success => "success",
        CheckConclusion::Failure => "failure",
        CheckConclusion::Neutral => "neutral",
    };
    match remarks {
        0 => word.to_owned(),
        1 => format!("{word}, one remark"),
        count => format!("{word}, {count} remarks"),
    }
}

fn told(name: &str, conclusion: CheckConclusion, summary: &str, remarks: &[Annotation]) -> String {
    let mut text = format!("**{name}**: {}\n\n{}\n\n", headline(conclusion, remarks.len()), summary.trim());
    for remark in remarks.iter().take(MOST_REMARKS) {
        let level = match remark.level {
            AnnotationLevel::Notice => "notice",
            AnnotationLevel::Warning => "warning",
            AnnotationLevel::Failure => "failure",
        };
        let path = remark.path.replace('`', "'").replace(char::is_control, " ");
        let message = remark.message.trim().replace('\n', "\n  ");
        let _ = writeln!(text, "- `{path}:{}` {level}: {message}", remark.start_line.max(1));
    }
    if remarks.len() > MOST_REMARKS {
        let _ = writeln!(text, "\n… and {} more remarks.", remarks.len() - MOST_REMARKS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_are_listed_and_what_is_left_out_is_said() {
        let remark = |line| Annotation {
            path: "src/`a`.rs".to_owned(),
            start_line: line,
            end_line: line,
            level: AnnotationLevel::Warning,
            message: "Two\nlines.\n".to_owned(),
        };
        let text = told("review", CheckConclusion::Failure, "Not good.\n", &[remark(0), remark(7)]);
        insta::assert_snapshot!(text);
        let many: Vec<Annotation> = (0..203).map(remark).collect();
        let text = told("review", CheckConclusion::Neutral, "", &many);
        assert!(
            text.starts_with("**review**: neutral, 203 remarks") && text.ends_with("… and 3 more remarks.\n")
        );
        assert_eq!(headline(CheckConclusion::Success, 1), "success, one remark");
    }
}
