//! Images in the layout of the Open Container Initiative, made here, as toolchains.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ports::sandbox::{JailEnd, Sandbox, SandboxError};
use sandbox::Runtime;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::jail::{Place, Ran, open_directory};
use crate::probe;

/// An archive that is being written.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.entry((name, ""), EntryType::Regular, mode, content)
    }

    fn directory(self, name: &str) -> Self {
        self.entry((name, ""), EntryType::Directory, 0o755, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry((name, target), EntryType::Symlink, 0o777, b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry((name, target), EntryType::Link, 0o644, b"")
    }

    /// Any name at all: the library that writes archives refuses those that lead outside.
    fn entry(mut self, names: (&str, &str), kind: EntryType, mode: u32, content: &[u8]) -> Self {
        let (name, target) = names;
        let mut header = Header::new_gnu();
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn plain(self) -> (&'static str, Vec<u8>) {
        ("application/vnd.oci.image.layer.v1.tar", self.bytes())
    }

    fn gzip(self) -> (&'static str, Vec<u8>) {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&self.bytes()).unwrap();
        ("application/vnd.oci.image.layer.v1.tar+gzip", encoder.finish().unwrap())
    }

    fn zstd(self) -> (&'static str, Vec<u8>) {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let bytes = ruzstd::encoding::compress_to_vec(self.bytes().as_slice(), level);
        ("application/vnd.oci.image.layer.v1.tar+zstd", bytes)
    }
}

fn blob(layout: &Path, kind: &str, bytes: &[u8]) -> Value {
    let digest = hex::encode(Sha256::digest(bytes));
    fs::write(layout.join("blobs/sha256").join(&digest), bytes).unwrap();
    json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() })
}

/// Writes a layout with one image of these layers.
fn image(home: &Path, layers: Vec<(&str, Vec<u8>)>) -> PathBuf {
    let layout = home.join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let layers: Vec<Value> = layers.into_iter().map(|(kind, bytes)| blob(&layout, kind, &bytes)).collect();
    let config = blob(&layout, "application/vnd.oci.image.config.v1+json", b"{}");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers });
    let descriptor = blob(&layout, kind, manifest.to_string().as_bytes());
    index(&layout, &[descriptor]);
    layout
}

fn index(layout: &Path, manifests: &[Value]) {
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

fn manifest(layout: &Path) -> Value {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    index["manifests"][0].clone()
}

/// A sandbox with the image as its runtime `image`.
fn place(layout: &Path, reference: Option<&str>) -> Place {
    let image = Runtime::Image { layout: layout.to_owned(), reference: reference.map(str::to_owned) };
    Place::with(|config| drop(config.runtimes.insert("image".into(), image)))
}

async fn run(place: &Place, command: &[&str]) -> Result<Ran, SandboxError> {
    let mut spec = place.spec(command);
    spec.runtime = Some("image".into());
    place.try_run(spec).await
}

/// Why there is no such runtime.
async fn refused(layout: &Path, reference: Option<&str>, words: &str) {
    let place = place(layout, reference);
    assert!(!place.jails.runtimes().contains(&"image".to_owned()));
    let error = run(&place, &["true"]).await.expect_err("a jail was made").to_string();
    assert!(error.contains(words), "{error}");
}

fn show(home: &Path) -> Vec<u8> {
    let program = home.join("show");
    probe::build_static(&program);
    fs::read(program).unwrap()
}

/// The root that was unpacked: the one with this file in it.
fn unpacked(place: &Place, with: &str) -> PathBuf {
    let roots = fs::read_dir(place.home.path().join("state/roots")).unwrap().flatten();
    let mut roots = roots.map(|entry| entry.path().join("root"));
    roots.find(|root| root.join(with).exists()).expect("no root was made of the image")
}

#[tokio::test]
async fn layers_lie_one_over_the_other() {
    let home = open_directory();
    let show = show(home.path());
    let first = Layer::new()
        .directory("usr/")
        .file("usr/bin/show", 0o4755, &show)
        .symlink("bin", "usr/bin")
        .file("etc/os-release", 0o644, b"ID=image\n")
        .file("etc/passwd", 0o600, b"somebody\n")
        .file("opt/gone", 0o644, b"x")
        .file("opt/old/a", 0o644, b"x")
        .file("opt/changed", 0o644, b"before")
        .file("tmp/unseen", 0o644, b"x");
    let second = Layer::new()
        .file("opt/.wh.gone", 0o644, b"")
        .file("opt/old/b", 0o644, b"b")
        .file("opt/old/.wh..wh..opq", 0o644, b"")
        .link("opt/twin", "usr/bin/show")
        .entry(("opt/device", ""), EntryType::Char, 0o666, b"");
    // A link on the way leads below the root: to /usr/bin.
    let third = Layer::new().file("opt/changed", 0o644, b"after").file("bin/note", 0o644, b"note");
    let layout = image(home.path(), vec![first.gzip(), second.plain(), third.zstd()]);
    let place = place(&layout, None);
    let files = ["/etc/os-release", "/etc/passwd", "/opt/changed", "/opt/old/b", "/usr/bin/note"];
    let ran = run(&place, &[&["show"][..], &files].concat()).await.unwrap();
    ran.ended(&JailEnd::Exited(0));
    assert!(ran.stdout.starts_with("ID=image\nroot:x:0:0") && ran.stdout.ends_with("afterbnote"), "{ran:?}");
    run(&place, &["/opt/twin", "/opt/changed"]).await.unwrap().wrote("after");

    let root = unpacked(&place, "opt/twin");
    for name in ["opt/gone", "opt/old/a", "opt/device", "tmp/unseen"] {
        assert!(fs::symlink_metadata(root.join(name)).is_err(), "{name}");
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(root.join("usr/bin/show")).unwrap());
    assert_eq!(mode & 0o7777, 0o755);
    // One for all of the image.
    let mounts = run(&place, &["show", "/proc/self/mountinfo"]).await.unwrap().stdout;
    let own = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let own: Vec<_> = own.filter(|at| !at.starts_with("/proc") && !at.starts_with("/dev")).collect();
    assert_eq!(own, ["/", "/tmp", "/home/agent", "/work"]);
    // Another server finds it unpacked; a sweep leaves it.
    place.jails.sweep().await.unwrap();
    assert!(root.exists());
}

#[tokio::test]
async fn an_image_is_found_by_machine_and_name() {
    let home = open_directory();
    let layout = image(home.path(), vec![Layer::new().file("bin/show", 0o755, &show(home.path())).gzip()]);
    let good = manifest(&layout);
    let with = |platform: Value, name: &str| {
        let mut descriptor = good.clone();
        descriptor["platform"] = platform;
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        descriptor
    };
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let ours = json!({ "os": "linux", "architecture": machine });
    let theirs = json!({ "os": "linux", "architecture": "s390x" });
    let works = async |reference| {
        let place = place(&layout, reference);
        run(&place, &["show", "/etc/group"]).await.unwrap().ended(&JailEnd::Exited(0));
    };
    index(&layout, &[with(theirs.clone(), "a"), with(ours.clone(), "a")]);
    works(None).await;
    index(&layout, &[with(ours.clone(), "a"), with(ours.clone(), "b")]);
    works(Some("b")).await;
    refused(&layout, None, "there are 2 images for this machine in it; say which").await;
    refused(&layout, Some("c"), "none of that name").await;
    index(&layout, &[with(theirs, "a")]);
    refused(&layout, None, "there is no image for linux/").await;
    // An index behind the index, as builders for several machines write it.
    let inner = json!({ "schemaVersion": 2, "manifests": [with(ours, "a")] });
    let kind = "application/vnd.oci.image.index.v1+json";
    let inner = blob(&layout, kind, inner.to_string().as_bytes());
    index(&layout, &[inner]);
    works(None).await;
}

#[tokio::test]
async fn what_is_not_as_its_digest_says_is_refused() {
    let home = open_directory();
    let layout = image(home.path(), vec![Layer::new().file("bin/x", 0o755, b"x").gzip()]);
    let good = manifest(&layout);
    let name = |descriptor: &Value| descriptor["digest"].as_str().unwrap()["sha256:".len()..].to_owned();
    let blobs = layout.join("blobs/sha256");
    let text = fs::read(blobs.join(name(&good))).unwrap();
    let layer = serde_json::from_slice::<Value>(&text).unwrap()["layers"][0].clone();
    let content = fs::read(blobs.join(name(&layer))).unwrap();

    let mut changed = content.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(blobs.join(name(&layer)), &changed).unwrap();
    refused(&layout, None, "is not what its digest says").await;
    fs::write(blobs.join(name(&layer)), [content.as_slice(), b"more"].concat()).unwrap();
    refused(&layout, None, "is not what its digest says").await;
    fs::remove_file(blobs.join(name(&layer))).unwrap();
    refused(&layout, None, "No such file").await;
    fs::write(blobs.join(name(&good)), "{}").unwrap();
    refused(&layout, None, "is not what its digest says").await;
    let mut path = good.clone();
    path["digest"] = json!("sha256:../../../../../../../../../../../../../../../../etc/passwd");
    index(&layout, &[path]);
    refused(&layout, None, "runtime `image`").await;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    refused(&layout, None, "version 2.0.0").await;
    refused(&home.path().join("nothing"), None, "runtime `image`").await;
}

/// Nothing outside changes, whatever an archive holds.
#[tokio::test]
async fn hostile_archives_stay_inside() {
    type Case = (&'static str, fn(&str) -> Layer, Option<&'static str>);
    let hostile: [Case; 9] = [
        ("upwards", |_| Layer::new().file("../../../../outside/new", 0o644, b"x"), Some("leads upwards")),
        ("upwards within", |_| Layer::new().file("a/../../b", 0o644, b"x"), Some("leads upwards")),
        (
            "by a link",
            |outside| Layer::new().symlink("out", outside).file("out/new", 0o644, b"x"),
            Some("File exists"),
        ),
        (
            "by a link upwards",
            |_| Layer::new().symlink("out", "../../../../../outside").file("out/new", 0o644, b"x"),
            Some("File exists"),
        ),
        (
            "over a link",
            |outside| Layer::new().symlink("file", &format!("{outside}/keep")).file("file", 0o644, b"x"),
            None,
        ),
        (
            "another name",
            |outside| Layer::new().link("twin", &format!("{outside}/keep")),
            Some("No such file"),
        ),
        (
            "another name upwards",
            |_| Layer::new().link("twin", "../../../../outside/keep"),
            Some("leads upwards"),
        ),
        (
            "hiding by a link",
            |outside| {
                Layer::new().symlink("out", outside).file("out/.wh.keep", 0o644, b"").file(
                    "out/.wh..wh..opq",
                    0o644,
                    b"",
                )
            },
            Some("File exists"),
        ),
        ("hiding upwards", |_| Layer::new().file("a/.wh...", 0o644, b""), Some("hides nothing")),
    ];
    for (what, layer, words) in hostile {
        let home = open_directory();
        let outside = home.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), "keep").unwrap();
        let layer = layer(outside.to_str().unwrap()).file("bin/end", 0o755, b"x");
        let layout = image(home.path(), vec![layer.plain()]);
        match words {
            Some(words) => refused(&layout, None, words).await,
            None => {
                let place = place(&layout, None);
                let error = run(&place, &["end"]).await.expect_err(what).to_string();
                assert!(error.contains("no program that this machine can run"), "{what}: {error}");
            }
        }
        let names: Vec<_> =
            fs::read_dir(&outside).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["keep"], "{what}");
        assert_eq!(fs::read_to_string(outside.join("keep")).unwrap(), "keep", "{what}");
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&fs::metadata(outside.join("keep")).unwrap()), 1);
    }
}

/// What the server writes over an image goes over it, not through its links.
#[tokio::test]
async fn own_files_lie_over_an_images_links() {
    let home = open_directory();
    let outside = home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let show = show(home.path());
    let layer = Layer::new()
        .file("bin/show", 0o755, &show)
        .symlink("etc", outside.to_str().unwrap())
        .symlink("usr", outside.to_str().unwrap());
    let place = place(&image(home.path(), vec![layer.plain()]), None);
    run(&place, &["/bin/show", "/etc/group"])
        .await
        .unwrap()
        .wrote("root:x:0:\nagent:x:1000:\nnogroup:x:65534:");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
