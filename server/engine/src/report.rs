//! Sentences that people read: sizes, spans, and what is said of a run on a page, a proposal or a push.

use std::time::Duration;

use domain::effect::Provenance;
use domain::marker::Trailers;
use domain::run::Run;
use domain::time::Timestamp;

/// A span as people write it: `40 ms`, `1.5 s`, `15 min`.
pub fn span(span: Duration) -> String {
    match span.as_secs() {
        whole if whole >= 120 && whole.is_multiple_of(60) => format!("{} min", whole / 60),
        0 => format!("{} ms", span.as_millis()),
        whole if span.subsec_millis() == 0 => format!("{whole} s"),
        _ => format!("{:.1} s", span.as_secs_f64()),
    }
}

/// A number of bytes as people write it: `2 GiB`, `512 MiB`, `3 KiB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 && b.is_multiple_of(1 << 30) => format!("{} GiB", b >> 30),
        b if b >= 1 << 20 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

/// A moment as people write it, to the minute: `2026-11-22 10:00 UTC`.
pub fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..16).map_or_else(|| text.clone(), |minute| format!("{} UTC", minute.replace('T', " ")))
}

/// Who wants what a run wants.
pub fn provenance(run: &Run) -> Provenance {
    Provenance {
        run: run.id,
        daemon: run.daemon.clone(),
        commit: run.commit.clone(),
        digest: run.digest.clone(),
    }
}

/// The message of the one commit that a proposal offers.
pub fn proposal_commit(title: &str, run: &Run) -> String {
    format!("{title}\n\n{}", Trailers::of(&provenance(run)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_well() {
        for (millis, text) in [(1_500, "1.5 s"), (90_000, "90 s"), (900_000, "15 min"), (20, "20 ms")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        for (bytes, text) in [(2 << 30, "2 GiB"), (512 << 20, "512 MiB"), (3_072, "3 KiB"), (9, "9 bytes")] {
            assert_eq!(size(bytes), text);
        }
    }
}
