//! Objects of a fetch, checked before anything refers to them: names in trees are safe, and whatever
//! an object refers to is there. Git does the first with `fetch.fsckObjects`, the second after each
//! fetch; gix does neither.
//!
//! Every object that came is looked at once, and what it refers to must be in the same pack or here
//! already. As this held for every earlier fetch, everything below the new refs is then complete.

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::objs::{CommitRefIter, Kind, TagRefIter, TreeRefIter};
use gix::odb::pack::index;
use ports::source::SourceError;

use crate::checkout::is_safe_name;
use crate::error::{Doing, refused};
use crate::meter::Meter;

/// Checks all objects of a pack. `view` sees the pack and the repository that it is for.
pub(crate) fn verify(view: &gix::Repository, index: &index::File, meter: &Meter) -> Result<(), SourceError> {
    let mut check = Check { view: view.clone(), index };
    // What is missing stays missing: do not look for new packs each time.
    check.view.objects.refresh_never();
    for entry in index.iter() {
        if meter.is_stopped() {
            return Err(SourceError::Unreachable("the fetch was stopped".into()));
        }
        check.object(entry.oid)?;
    }
    Ok(())
}

struct Check<'a> {
    view: gix::Repository,
    index: &'a index::File,
}

impl Check<'_> {
    fn object(&mut self, id: ObjectId) -> Result<(), SourceError> {
        if self.view.find_header(id).doing("reading what was fetched")?.kind() == Kind::Blob {
            return Ok(());
        }
        let object = self.view.find_object(id).doing("reading what was fetched")?;
        match object.kind {
            Kind::Tree => self.tree(id, &object.data),
            Kind::Commit => {
                let mut parts = CommitRefIter::from_bytes(&object.data, id.kind());
                self.present(id, parts.tree_id().doing("reading a fetched commit")?)?;
                parts.parent_ids().try_for_each(|parent| self.present(id, parent))
            }
            Kind::Tag => {
                let target = TagRefIter::from_bytes(&object.data, id.kind()).target_id();
                self.present(id, target.doing("reading a fetched tag")?)
            }
            Kind::Blob => Ok(()),
        }
    }

    fn tree(&self, id: ObjectId, data: &[u8]) -> Result<(), SourceError> {
        let mut names = std::collections::HashSet::new();
        for entry in TreeRefIter::from_bytes(data, id.kind()) {
            let entry = entry.doing("reading a fetched tree")?;
            if !is_safe_name(entry.filename) {
                return refused(format!(
                    "the remote's tree {id} names `{}`, which is not safe",
                    shown(entry.filename)
                ));
            }
            if !names.insert(entry.filename) {
                return refused(format!("the remote's tree {id} names `{}` twice", shown(entry.filename)));
            }
            if entry.mode.is_link() && is_gitmodules(entry.filename) {
                return refused(format!("in the remote's tree {id}, .gitmodules is a link"));
            }
            if !entry.mode.is_commit() {
                self.present(id, entry.oid.to_owned())?;
            }
        }
        Ok(())
    }

    fn present(&self, by: ObjectId, id: ObjectId) -> Result<(), SourceError> {
        if self.index.lookup(id).is_some() || self.view.has_object(id) {
            return Ok(());
        }
        refused(format!("the remote sent {by} without {id}, which it refers to"))
    }
}

fn is_gitmodules(name: &gix::bstr::BStr) -> bool {
    use gix::validate::path::component::{Mode, Options};
    let options = Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    gix::validate::path::component(name, Some(Mode::Symlink), options).is_err()
}

fn shown(name: &gix::bstr::BStr) -> String {
    name.to_str_lossy().escape_debug().take(80).collect()
}
