//! Objects of a fetch, checked before anything refers to them: names in trees are safe, and whatever
//! an object refers to is there. Git does the first with `fetch.fsckObjects`, the second after each
//! fetch; gix does neither.
//!
//! Every object that came is looked at once, and what it refers to must be in the same pack or here
//! already. As this held for every earlier fetch, everything below the new refs is then complete.
//!
//! An entry that the tree of the same directory has in the newest commit that was here before needs no
//! look: of a directory with ten thousand entries of which one changed, one is looked at.

use std::collections::{HashMap, HashSet};

use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::objs::tree::EntryRef;
use gix::objs::{CommitRefIter, Kind, TagRefIter, TreeRefIter};
use gix::odb::pack::index;
use ports::source::SourceError;

use crate::checkout::is_safe_name;
use crate::error::{Doing, refused};
use crate::meter::Meter;

/// Checks all objects of a pack. `view` sees the pack and the repository that it is for.
pub(crate) fn verify(view: &gix::Repository, index: &index::File, meter: &Meter) -> Result<(), SourceError> {
    let mut check =
        Check { view: view.clone(), index, meter, commits: HashMap::new(), before: HashMap::new() };
    // What is missing stays missing: do not look for new packs each time.
    check.view.objects.refresh_never();
    let mut trees = Vec::new();
    for entry in index.iter() {
        check.go_on()?;
        match check.view.find_header(entry.oid).doing(READING)?.kind() {
            Kind::Commit => check.commit(entry.oid)?,
            Kind::Tag => check.tag(entry.oid)?,
            Kind::Tree => trees.push(entry.oid),
            Kind::Blob => {}
        }
    }
    check.find_before()?;
    for tree in trees {
        check.go_on()?;
        check.tree(tree)?;
    }
    Ok(())
}

const READING: &str = "reading what was fetched";

struct Check<'a> {
    view: gix::Repository,
    index: &'a index::File,
    meter: &'a Meter,
    /// The commits of the pack: their trees, and their first parents.
    commits: HashMap<ObjectId, (ObjectId, Option<ObjectId>)>,
    /// For trees of the pack, the one that was in its place in a commit that was here before. One that
    /// is in the pack itself vouches for nothing.
    before: HashMap<ObjectId, ObjectId>,
}

impl Check<'_> {
    fn go_on(&self) -> Result<(), SourceError> {
        if self.meter.is_stopped() {
            return Err(SourceError::Unreachable("the fetch was stopped".into()));
        }
        Ok(())
    }

    fn commit(&mut self, id: ObjectId) -> Result<(), SourceError> {
        let object = self.view.find_object(id).doing(READING)?;
        let mut parts = CommitRefIter::from_bytes(&object.data, id.kind());
        let tree = parts.tree_id().doing("reading a fetched commit")?;
        self.present(id, tree)?;
        let parents: Vec<ObjectId> = parts.parent_ids().collect();
        parents.iter().try_for_each(|parent| self.present(id, *parent))?;
        drop(object);
        self.commits.insert(id, (tree, parents.first().copied()));
        Ok(())
    }

    /// Pairs the trees of the pack with those that were here before, from the roots down.
    fn find_before(&mut self) -> Result<(), SourceError> {
        let mut left = Vec::new();
        for (commit, ancestor) in known_ancestors(&self.commits) {
            let known = self.view.find_commit(ancestor).doing(READING)?.tree_id().doing(READING)?;
            left.push((self.commits[&commit].0, known.detach()));
        }
        while let Some((new, old)) = left.pop() {
            self.go_on()?;
            let is_settled = self.before.contains_key(&new) || self.index.lookup(new).is_none();
            if is_settled || self.index.lookup(old).is_some() {
                continue;
            }
            self.before.insert(new, old);
            let (new, old) = (self.data(new)?, self.data(old)?);
            for pair in differing(&new, &old) {
                match pair? {
                    (entry, Some(before)) if entry.mode.is_tree() && before.mode.is_tree() => {
                        left.push((entry.oid.to_owned(), before.oid.to_owned()));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn tag(&self, id: ObjectId) -> Result<(), SourceError> {
        let object = self.view.find_object(id).doing(READING)?;
        let target = TagRefIter::from_bytes(&object.data, id.kind()).target_id();
        self.present(id, target.doing("reading a fetched tag")?)
    }

    fn data(&self, tree: ObjectId) -> Result<Vec<u8>, SourceError> {
        Ok(self.view.find_tree(tree).doing(READING)?.data.clone())
    }

    fn tree(&self, id: ObjectId) -> Result<(), SourceError> {
        let data = self.data(id)?;
        let before = self.before.get(&id).map(|before| self.data(*before)).transpose()?.unwrap_or_default();
        let mut new_names: HashSet<&BStr> = HashSet::new();
        for pair in differing(&data, &before) {
            let (entry, _) = pair?;
            if !is_safe_name(entry.filename) {
                let name = shown(entry.filename);
                return refused(format!("the remote's tree {id} names `{name}`, which is not safe"));
            }
            if !new_names.insert(entry.filename) {
                return self.twice(id, entry.filename);
            }
            if entry.mode.is_link() && is_gitmodules(entry.filename) {
                return refused(format!("in the remote's tree {id}, .gitmodules is a link"));
            }
            if !entry.mode.is_commit() {
                self.present(id, entry.oid.to_owned())?;
            }
        }
        // Those that are as before are not named twice among themselves, but may be named anew.
        let mut seen = HashSet::new();
        for entry in TreeRefIter::from_bytes(&data, id.kind()) {
            let entry = entry.doing("reading a fetched tree")?;
            if new_names.contains(entry.filename) && !seen.insert(entry.filename) {
                return self.twice(id, entry.filename);
            }
        }
        Ok(())
    }

    fn twice(&self, id: ObjectId, name: &BStr) -> Result<(), SourceError> {
        refused(format!("the remote's tree {id} names `{}` twice", shown(name)))
    }

    fn present(&self, by: ObjectId, id: ObjectId) -> Result<(), SourceError> {
        if self.index.lookup(id).is_some() || self.view.has_object(id) {
            return Ok(());
        }
        refused(format!("the remote sent {by} without {id}, which it refers to"))
    }
}

/// Each commit of a pack with the nearest commit on its first-parent line that is not of the pack.
fn known_ancestors(commits: &HashMap<ObjectId, (ObjectId, Option<ObjectId>)>) -> Vec<(ObjectId, ObjectId)> {
    let mut found: HashMap<ObjectId, Option<ObjectId>> = HashMap::new();
    for &commit in commits.keys() {
        let mut line = Vec::new();
        let mut at = Some(commit);
        let ancestor = loop {
            let Some(id) = at else { break None };
            if let Some(known) = found.get(&id) {
                break *known;
            }
            let Some((_, parent)) = commits.get(&id) else { break Some(id) };
            line.push(id);
            at = *parent;
        };
        found.extend(line.into_iter().map(|id| (id, ancestor)));
    }
    found.into_iter().filter_map(|(commit, ancestor)| Some((commit, ancestor?))).collect()
}

/// The entries of a tree that another has not got just so, each with the other's of the same name.
/// Both are read once, side by side; where one is not in git's order, more differs than need be.
fn differing<'t>(
    new: &'t [u8],
    old: &'t [u8],
) -> impl Iterator<Item = Result<(EntryRef<'t>, Option<EntryRef<'t>>), SourceError>> {
    let hash = gix::hash::Kind::Sha1;
    // The other was looked at before; if it cannot be read, it vouches for nothing.
    let mut old = TreeRefIter::from_bytes(old, hash).map_while(Result::ok).peekable();
    TreeRefIter::from_bytes(new, hash).filter_map(move |entry| {
        let entry = match entry.doing("reading a fetched tree") {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        while old.next_if(|before| *before < entry && before.filename != entry.filename).is_some() {}
        match old.next_if(|before| before.filename == entry.filename) {
            Some(before) if before == entry => None,
            before => Some(Ok((entry, before))),
        }
    })
}

fn is_gitmodules(name: &gix::bstr::BStr) -> bool {
    use gix::validate::path::component::{Mode, Options};
    let options = Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    gix::validate::path::component(name, Some(Mode::Symlink), options).is_err()
}

fn shown(name: &gix::bstr::BStr) -> String {
    name.to_str_lossy().escape_debug().take(80).collect()
}
