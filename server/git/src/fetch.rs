//! Fetching: ask for the remote's refs, get what is missing into a place of its own, check it, move it
//! in, and only then move the refs.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use domain::id::RepositoryId;
use domain::name::Branch;
use gix::bstr::{BString, ByteSlice};
use gix::objs::Kind;
use gix::protocol::fetch::refmap::{Mapping, init::Context as Wanted};
use gix::protocol::fetch::{Arguments, RefMap, Shallow, Tags, negotiate};
use gix::protocol::transport::Service;
use gix::protocol::transport::client::blocking_io::Transport;
use gix::protocol::{Handshake, SendFlushOnDrop};
use gix::refs::transaction::PreviousValue;
use gix::refs::{FullName, Target};
use gix::{ObjectId, progress::Discard};
use ports::source::{Fetched, SourceError};

use crate::bring::Brought;
use crate::config::Bounds;
use crate::error::{Doing, of_status, refused, words};
use crate::meter::{Meter, Metered};
use crate::mirror::Mirrors;
use crate::verify::verify;
use crate::{object, reference};

/// One fetch into one mirror.
pub(crate) struct Fetch<'a> {
    pub(crate) mirrors: &'a Mirrors,
    pub(crate) repository: RepositoryId,
    pub(crate) wish: &'a Wish,
    pub(crate) bounds: Bounds,
    pub(crate) meter: &'a Meter,
}

/// What is fetched.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// All branches and tags; what is gone there goes here too.
    BranchesAndTags,
    /// One other ref.
    One(Brought),
}

impl Wish {
    fn refspecs(&self) -> Vec<String> {
        match self {
            Self::BranchesAndTags => {
                ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "HEAD"].map(str::to_owned).into()
            }
            Self::One(brought) => vec![format!("+{}:{}", brought.theirs(), brought.ours())],
        }
    }
}

/// The remote, ready to be asked.
struct Wire<'w, T> {
    handshake: &'w mut Handshake,
    transport: &'w mut T,
}

/// What is on the remote and not here, and the other way round.
pub(crate) struct Moves {
    map: RefMap,
    pub(crate) changed: BTreeMap<FullName, ObjectId>,
    gone: Vec<(FullName, ObjectId)>,
    local: BTreeMap<FullName, ObjectId>,
    head: Option<Branch>,
    is_head_new: bool,
    /// What the remote surely has as well.
    common: Vec<ObjectId>,
    /// What it may have as well.
    pub(crate) tips: Vec<ObjectId>,
}

impl Moves {
    /// Nothing is to be done.
    pub(crate) fn none(map: RefMap) -> Self {
        Self {
            map,
            changed: BTreeMap::new(),
            gone: Vec::new(),
            local: BTreeMap::new(),
            head: None,
            is_head_new: false,
            common: Vec::new(),
            tips: Vec::new(),
        }
    }
}

impl Fetch<'_> {
    /// Brings the mirror to where the remote is.
    pub(crate) fn run(&self, transport: impl Transport) -> Result<Fetched, SourceError> {
        let mirror = self.mirrors.open(self.repository)?;
        let mut transport = SendFlushOnDrop::new(transport, false);
        let mut handshake = gix::protocol::handshake(
            &mut transport.inner,
            Service::UploadPack,
            |_| Ok(None),
            Vec::new(),
            &mut Discard,
        )
        .map_err(|error| self.failure(&error))?;
        let moves = self.moves(&mirror, &mut handshake, &mut transport.inner)?;
        if moves.changed.is_empty() && moves.gone.is_empty() && !moves.is_head_new {
            return Ok(Fetched::Unchanged);
        }
        if !moves.changed.is_empty() {
            let mut wire = Wire { handshake: &mut handshake, transport: &mut transport.inner };
            self.receive(&mirror, &moves, &mut wire)?;
        }
        drop(transport);
        match self.wish {
            Wish::BranchesAndTags => move_refs(&mirror, &moves)?,
            Wish::One(brought) => brought.land(&mirror, &moves)?,
        }
        if let (Some(head), true) = (&moves.head, moves.is_head_new) {
            reference::set_head(&mirror, head)?;
        }
        Ok(Fetched::Updated { default_branch: moves.head })
    }

    fn moves(
        &self,
        repo: &gix::Repository,
        handshake: &mut Handshake,
        transport: &mut impl Transport,
    ) -> Result<Moves, SourceError> {
        let specs = self.wish.refspecs().into_iter().map(|spec| {
            gix::refspec::parse(spec.as_str().into(), gix::refspec::parse::Operation::Fetch)
                .expect("because these are valid")
                .to_owned()
        });
        let wanted = Wanted { fetch_refspecs: specs.collect(), extra_refspecs: Vec::new() };
        let map = handshake
            .prepare_lsrefs_or_extract_refmap(agent(), true, wanted)
            .and_then(|refs| refs.fetch_blocking(Discard, transport, false))
            .map_err(|error| self.failure(&error))?;
        if map.object_hash != repo.object_hash() {
            return refused("the remote uses SHA-256, which is not supported");
        }
        if map.remote_refs.len() > self.bounds.refs {
            let most = self.bounds.refs;
            return refused(format!(
                "the remote has {} refs; at most {most} are fetched",
                map.remote_refs.len()
            ));
        }
        match self.wish {
            Wish::BranchesAndTags => compare(repo, map),
            Wish::One(brought) => brought.compare(repo, map),
        }
    }

    /// Gets the objects that are missing. Until they are checked they lie where nothing sees them;
    /// they are gone when something fails.
    fn receive(
        &self,
        repo: &gix::Repository,
        moves: &Moves,
        wire: &mut Wire<'_, impl Transport>,
    ) -> Result<(), SourceError> {
        let objects = repo.objects.store_ref().path().to_owned();
        let incoming = tempfile::Builder::new()
            .prefix("incoming-")
            .tempdir_in(&objects)
            .doing("making room for a fetch")?;
        let packs = incoming.path().join("pack");
        std::fs::create_dir(&packs).doing("making room for a fetch")?;
        let written = self.receive_pack(repo, moves, wire, &packs)?;
        let (Some(data), Some(index)) = written else { return Ok(()) };
        let view = self.mirrors.quarantined(self.repository, incoming.path())?;
        let parsed =
            gix::odb::pack::index::File::at(&index, repo.object_hash()).doing("reading what was fetched")?;
        verify(&view, &parsed, self.meter)?;
        // The index last: it is what makes a pack visible.
        for path in [&data, &index] {
            let name = path.file_name().expect("because gix named this file");
            std::fs::rename(path, objects.join("pack").join(name)).doing("storing what was fetched")?;
        }
        Ok(())
    }

    fn receive_pack(
        &self,
        repo: &gix::Repository,
        moves: &Moves,
        wire: &mut Wire<'_, impl Transport>,
        packs: &Path,
    ) -> Result<Written, SourceError> {
        let mut graph_repo = repo.clone();
        graph_repo.objects.refresh_never();
        graph_repo.objects.unset_object_cache();
        let cache = graph_repo.commit_graph_if_enabled().doing("opening the commit graph")?;
        let mut graph = graph_repo.revision_graph(cache.as_ref());
        let mut negotiation = Negotiation {
            repo: &graph_repo,
            graph: &mut graph,
            moves,
            negotiator: gix::negotiate::Algorithm::Consecutive.into_negotiator(),
        };
        let mut written = (None, None);
        let options = gix::odb::pack::bundle::write::Options {
            thread_limit: Some(1),
            iteration_mode: gix::odb::pack::data::input::Mode::Verify,
            index_version: gix::odb::pack::index::Version::V2,
            alloc_limit_bytes: usize::try_from(self.bounds.object_bytes).ok(),
            ..Default::default()
        };
        self.meter.allow(self.bounds.fetch_bytes);
        let context = gix::protocol::fetch::Context {
            handshake: &mut *wire.handshake,
            transport: &mut *wire.transport,
            user_agent: agent(),
            trace_packetlines: false,
        };
        gix::protocol::fetch(
            &mut negotiation,
            |reader, progress, stopped| {
                let head = self.pack_head(reader)?;
                let reader = &mut std::io::Cursor::new(head).chain(reader);
                let outcome = gix::odb::pack::Bundle::write_to_directory(
                    &mut Metered { inner: reader, meter: self.meter },
                    Some(packs),
                    progress,
                    stopped,
                    Some(repo.objects.clone()),
                    repo.object_hash(),
                    options,
                )?;
                written = (outcome.data_path, outcome.index_path);
                Ok(true)
            },
            Discard,
            &self.meter.stopped,
            context,
            gix::protocol::fetch::Options {
                shallow_file: repo.shallow_file().doing("reading the repository")?,
                shallow: &Shallow::NoChange,
                tags: Tags::None,
                reject_shallow_remote: true,
            },
        )
        .map_err(|error| self.failure(&error))?;
        Ok(written)
    }

    /// The first bytes of a pack: `PACK`, its version, how many objects follow (gitformat-pack(5)).
    fn pack_head(&self, reader: &mut dyn std::io::BufRead) -> gix::Result<[u8; 12]> {
        let mut head = [0; 12];
        reader.read_exact(&mut head).map_err(gix::Error::from_error)?;
        let count = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        if count > self.bounds.fetch_objects {
            self.meter.refuse();
            return Err(gix::Error::from_error(gix::error::message("too many objects")));
        }
        Ok(head)
    }

    /// What a failure means for whoever polls this remote.
    pub(crate) fn failure(&self, error: &gix::Error) -> SourceError {
        let text = words(error);
        if self.meter.is_too_much() {
            return SourceError::Refused("the remote sends more than is allowed".into());
        }
        if self.meter.is_stopped() {
            return SourceError::Unreachable("the remote did not answer in time".into());
        }
        let status = self.meter.status.load(std::sync::atomic::Ordering::Relaxed);
        if let Some(error) = of_status(status) {
            return error;
        }
        if matches!(status, 429 | 500..) {
            return SourceError::Unreachable(text);
        }
        if text.contains("not allowed here") || text.contains("redirects") || text.contains("shallow") {
            return SourceError::Refused(text);
        }
        if error.is_unsupported() {
            return SourceError::Refused(text);
        }
        if error.is_unauthenticated() {
            return SourceError::Unauthorized("the remote wants another credential".into());
        }
        SourceError::Unreachable(text)
    }
}

type Written = (Option<std::path::PathBuf>, Option<std::path::PathBuf>);

fn agent() -> gix::protocol::command::Feature {
    ("agent", Some(concat!("spellbook/", env!("CARGO_PKG_VERSION")).into()))
}

fn compare(repo: &gix::Repository, mut map: RefMap) -> Result<Moves, SourceError> {
    let mut local = BTreeMap::new();
    for prefix in ["refs/heads/", "refs/tags/"] {
        local.extend(reference::below(repo, prefix)?);
    }
    let mut remote = BTreeMap::new();
    for mapping in &map.mappings {
        let (Some(name), Some(id)) = (&mapping.local, mapping.remote.as_id()) else { continue };
        if let Some(name) = ref_name(name) {
            remote.insert(name, id.to_owned());
        }
    }
    let gone: Vec<_> = local
        .iter()
        .filter(|(name, _)| !remote.contains_key(*name))
        .map(|(name, id)| (name.clone(), *id))
        .collect();
    if remote.is_empty() && !gone.is_empty() {
        // A broken or emptied remote would take everything with it.
        return Err(SourceError::Unreachable(format!(
            "the remote shows no branch and no tag where it had {}; nothing was removed",
            gone.len()
        )));
    }
    let head = map.remote_refs.iter().find_map(head_branch);
    let is_head_new = head.is_some() && reference::head(repo)? != head;
    remote.retain(|name, id| local.get(name) != Some(id));
    map.mappings.retain_mut(|mapping| match mapping.local.take() {
        Some(name) => ref_name(&name).is_some_and(|name| remote.contains_key(&name)),
        None => false,
    });
    let is_moved = |name| remote.contains_key(name) || gone.iter().any(|(gone, _)| gone == name);
    let (moved, unmoved): (Vec<_>, Vec<_>) = local.iter().partition(|(name, _)| is_moved(*name));
    let ids =
        |refs: Vec<(&FullName, &ObjectId)>, most| refs.into_iter().take(most).map(|(_, id)| *id).collect();
    let (tips, common) = (ids(moved, usize::MAX), ids(unmoved, MOST_COMMON));
    Ok(Moves { map, changed: remote, gone, local, head, is_head_new, common, tips })
}

/// Only names that the product knows; others could not be addressed anyway.
fn ref_name(name: &BString) -> Option<FullName> {
    let text = name.to_str().ok()?;
    let short = text.strip_prefix("refs/heads/").or_else(|| text.strip_prefix("refs/tags/"))?;
    Branch::parse(short).ok()?;
    FullName::try_from(text).ok()
}

fn head_branch(reference: &gix::protocol::handshake::Ref) -> Option<Branch> {
    use gix::protocol::handshake::Ref;
    let (Ref::Symbolic { full_ref_name, target, .. } | Ref::Unborn { full_ref_name, target }) = reference
    else {
        return None;
    };
    let short = target.strip_prefix(b"refs/heads/")?.to_str().ok()?;
    if full_ref_name == "HEAD" { Branch::parse(short).ok() } else { None }
}

/// Keeps what would be lost, removes what is gone, moves the rest. In this order a crash in between
/// loses nothing: the next fetch sees the same difference again.
fn move_refs(repo: &gix::Repository, moves: &Moves) -> Result<(), SourceError> {
    let mut kept = Vec::new();
    let replaced =
        moves.changed.iter().filter_map(|(name, new)| moves.local.get(name).map(|old| (*old, Some(*new))));
    for (old, new) in replaced.chain(moves.gone.iter().map(|(_, old)| (*old, None))) {
        if let Some(old) = object::peeled(repo, old)?
            && !reference::is_within(repo, old, new)?
        {
            kept.push(old);
        }
    }
    kept.sort();
    kept.dedup();
    let kept = kept.into_iter().map(reference::kept).collect::<Result<_, _>>()?;
    reference::edit_all(repo, kept)?;
    let removals = moves.gone.iter().map(|(name, old)| {
        reference::remove(
            &name.as_bstr().to_str_lossy(),
            PreviousValue::MustExistAndMatch(Target::Object(*old)),
        )
    });
    reference::edit_all(repo, removals.collect::<Result<_, _>>()?)?;
    let mut updates = Vec::with_capacity(moves.changed.len());
    for (name, new) in &moves.changed {
        let name = name.as_bstr().to_str_lossy();
        let kind = repo.find_header(*new).doing("reading what was fetched")?.kind();
        if name.starts_with("refs/heads/") && kind != Kind::Commit {
            return refused(format!("the remote's {name} is not a commit"));
        }
        updates.push(reference::update(&name, *new, PreviousValue::Any)?);
    }
    reference::edit_many(repo, updates)
}

/// Which objects are asked for and which ones the remote need not send. Only what came from this
/// remote is told to it: not the snapshots of runs, which would also make each fetch slower.
struct Negotiation<'r, 'g, 'c> {
    repo: &'r gix::Repository,
    graph: &'g mut gix::negotiate::Graph<'r, 'c>,
    moves: &'r Moves,
    negotiator: Box<dyn gix::negotiate::Negotiator>,
}

/// How many unmoved refs are told to the remote; one is enough where history is shared.
const MOST_COMMON: usize = 256;

impl Negotiation<'_, '_, '_> {
    fn begin(&mut self) -> Result<(), SourceError> {
        for id in &self.moves.common {
            if let Some(commit) = object::peeled(self.repo, *id)? {
                self.negotiator.known_common(commit, self.graph).doing("preparing a fetch")?;
            }
        }
        for id in &self.moves.tips {
            if let Some(commit) = object::peeled(self.repo, *id)? {
                self.negotiator.add_tip(commit, self.graph).doing("preparing a fetch")?;
            }
        }
        Ok(())
    }
}

impl gix::protocol::fetch::Negotiate for Negotiation<'_, '_, '_> {
    fn mark_complete_and_common_ref(&mut self) -> gix::Result<negotiate::Action> {
        let here = |mapping: &Mapping| mapping.remote.as_id().is_none_or(|id| self.repo.has_object(id));
        let known: Vec<bool> = self.moves.map.mappings.iter().map(here).collect();
        if known.iter().all(|known| *known) {
            return Ok(negotiate::Action::SkipToRefUpdate);
        }
        self.begin().map_err(gix::Error::from_error)?;
        Ok(negotiate::Action::MustNegotiate { remote_ref_target_known: known })
    }

    fn add_wants(&mut self, arguments: &mut Arguments, known: &[bool]) -> bool {
        let map = &self.moves.map;
        negotiate::add_wants(&self.repo.objects, arguments, map, known, &Shallow::NoChange, |_| false)
    }

    fn one_round(
        &mut self,
        state: &mut negotiate::one_round::State,
        arguments: &mut Arguments,
        previous: Option<&gix::protocol::fetch::Response>,
    ) -> gix::Result<(negotiate::Round, bool)> {
        negotiate::one_round(&mut *self.negotiator, self.graph, state, arguments, previous)
    }
}
