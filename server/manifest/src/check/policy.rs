//! `.spellbook/policy.yaml`.

use domain::files::File;

use super::spellbook::globs;
use super::triggers::lines;
use super::{regular_text, tree};
use crate::diagnostic::{Checked, Report};
use crate::policy::Policy;
use crate::raw::policy as raw;
use crate::read::{Read, Reader, Slot};
use crate::yaml::{Node, Shape};

/// Checks what a repository lets daemons do, at `path` in it. An empty file is one that says nothing.
pub fn check_policy(path: &str, file: &File) -> Checked<Policy> {
    let mut report = Report::default();
    let value = read(path, file, &mut report);
    Checked::new(value, report.finish(path))
}

fn read(path: &str, file: &File, report: &mut Report) -> Option<Policy> {
    let text = regular_text(Some(file), path, report)?;
    let node = tree(text, path, report)?;
    if node.shape == Shape::Scalar(serde_json::Value::Null) {
        return Some(Policy::default());
    }
    policy(&node, &mut Reader::new(path.to_owned(), text, report))
}

fn policy(node: &Node, reader: &mut Reader<'_>) -> Option<Policy> {
    let root = reader.root(node);
    let raw = raw::File::read(node, root, reader)?;
    let allows = |slot: &Slot<raw::Consent>| slot.get() != Some(&raw::Consent::Deny);
    let mut policy = Policy {
        bots: allows(&raw.bots),
        comments: allows(&raw.comments),
        issues: allows(&raw.issues),
        ..Policy::default()
    };
    if let Some(daemons) = raw.daemons.get() {
        policy.allow = globs(&daemons.allow, reader);
        policy.block = globs(&daemons.block, reader).unwrap_or_default();
    }
    if let Some(pulls) = raw.pull_requests.get() {
        policy.max_open = pulls.max_open.cloned();
        policy.labels = lines(&pulls.labels);
    }
    Some(policy)
}
