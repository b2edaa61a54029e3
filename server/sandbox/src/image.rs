//! Images in the layout of the Open Container Initiative (image-spec 1.1), unpacked as root file systems.
//!
//! What is unpacked was written by strangers. Every blob is checked against its digest before it is read.
//! Every entry is put below one directory by descriptors: links on the way are followed as if that directory
//! were `/` (openat2(2), RESOLVE_IN_ROOT), a name with `..` in it is refused. Devices, pipes and owners are
//! left out, as are set-user-id bits, and what a jail makes itself anyway.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use oci_spec::image::{
    ANNOTATION_REF_NAME, Arch, Descriptor, DigestAlgorithm, ImageIndex, ImageManifest, MediaType, OciLayout,
    Os,
};
use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest as _, Sha256};

use crate::unpack::Tree;

/// Largest index or manifest.
const DOCUMENT_MOST: u64 = 4 << 20;
/// Indexes that point to indexes, at most.
const DEPTH: usize = 4;
/// Layers of an image, at most.
const LAYERS: usize = 256;

/// An image on disk, of which only the manifest was read.
#[derive(Debug)]
pub(crate) struct Image {
    layout: PathBuf,
    manifest: ImageManifest,
    digest: String,
}

impl Image {
    /// Finds the image for this machine in a layout, by the name that it bears there if there are several.
    ///
    /// # Errors
    /// When there is none, or not exactly one, or what there is is broken.
    pub(crate) fn open(layout: &Path, reference: Option<&str>) -> io::Result<Self> {
        let header = OciLayout::from_file(layout.join("oci-layout")).map_err(io::Error::other)?;
        let version = header.image_layout_version();
        if version != "1.0.0" {
            return Err(broken(format!("its layout is of version {version}, and 1.0.0 is understood")));
        }
        let index =
            ImageIndex::from_reader(document(&layout.join("index.json"))?).map_err(io::Error::other)?;
        let named = |descriptor: &&Descriptor| {
            let name = descriptor.annotations().as_ref().and_then(|all| all.get(ANNOTATION_REF_NAME));
            reference.is_none() || name.map(String::as_str) == reference
        };
        let manifests: Vec<_> = index.manifests().iter().filter(named).collect();
        let descriptor = find(layout, &manifests, DEPTH)?;
        let manifest =
            ImageManifest::from_reader(text(layout, &descriptor)?.as_slice()).map_err(io::Error::other)?;
        if manifest.layers().len() > LAYERS {
            return Err(broken(format!("it has {} layers", manifest.layers().len())));
        }
        Ok(Self { layout: layout.to_owned(), manifest, digest: descriptor.digest().digest().to_owned() })
    }

    /// SHA-256 of the manifest, and so of everything in the image.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Unpacks it into an empty directory.
    ///
    /// # Errors
    /// When a blob is not what its digest says, or holds what must not be.
    pub(crate) fn unpack(&self, into: &Path) -> io::Result<()> {
        let mut tree = Tree::open(into)?;
        for layer in self.manifest.layers() {
            let blob = blob(&self.layout, layer)?;
            let said = |error: io::Error| broken(format!("layer {}: {error}", layer.digest()));
            match layer.media_type().as_ref() {
                kind if kind.ends_with("gzip") => tree.layer(MultiGzDecoder::new(blob)),
                kind if kind.ends_with("zstd") => {
                    let decoder = StreamingDecoder::new(blob).map_err(io::Error::other)?;
                    tree.layer(decoder)
                }
                kind if kind.ends_with("tar") => tree.layer(blob),
                kind => Err(broken(format!("layers of the kind {kind} are not understood"))),
            }
            .map_err(said)?;
        }
        Ok(())
    }
}

fn broken(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The one manifest for this machine among these.
fn find(layout: &Path, descriptors: &[&Descriptor], depth: usize) -> io::Result<Descriptor> {
    let fits = |descriptor: &&&Descriptor| {
        descriptor.platform().as_ref().is_none_or(|platform| {
            *platform.os() == Os::Linux && *platform.architecture() == Arch::from(MACHINE)
        })
    };
    match descriptors.iter().filter(fits).collect::<Vec<_>>().as_slice() {
        [one] if is_index(one.media_type()) => {
            if depth == 0 {
                return Err(broken("its indexes go deeper than any image".to_owned()));
            }
            let index = ImageIndex::from_reader(text(layout, one)?.as_slice()).map_err(io::Error::other)?;
            find(layout, &index.manifests().iter().collect::<Vec<_>>(), depth - 1)
        }
        [one] => Ok((**one).clone()),
        [] => Err(broken(format!("there is no image for linux/{MACHINE} in it, or none of that name"))),
        several => Err(broken(format!(
            "there are {} images for this machine in it; say which, as in PATH:NAME",
            several.len()
        ))),
    }
}

const MACHINE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

fn is_index(kind: &MediaType) -> bool {
    matches!(kind, MediaType::ImageIndex)
        || kind.as_ref() == "application/vnd.docker.distribution.manifest.list.v2+json"
}

fn document(path: &Path) -> io::Result<impl Read> {
    Ok(File::open(path)?.take(DOCUMENT_MOST))
}

/// A blob, at its start, that is what its descriptor says.
fn blob(layout: &Path, descriptor: &Descriptor) -> io::Result<File> {
    let digest = descriptor.digest();
    if *digest.algorithm() != DigestAlgorithm::Sha256 {
        return Err(broken(format!("{digest} is no SHA-256")));
    }
    let path = layout.join("blobs/sha256").join(digest.digest());
    let mut file = File::open(&path).map_err(|error| broken(format!("{}: {error}", path.display())))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => {
                hash.update(&piece[..count]);
                size += count as u64;
            }
        }
    }
    if size != descriptor.size() || hex::encode(hash.finalize()) != digest.digest() {
        return Err(broken(format!("{} is not what its digest says", path.display())));
    }
    file.rewind()?;
    Ok(file)
}

fn text(layout: &Path, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    blob(layout, descriptor)?.take(DOCUMENT_MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
