//! Branches, tags, lines, changes, directories: the same as git says.

use domain::files::File;
use domain::name::{Commit, Tag};
use ports::source::{ChangeKind, Directory, EntryKind, PathChange, ReadBounds, Source, SourceError, View};

use crate::fixture::{Fixture, REPOSITORY, branch, commit};

const BOUNDS: ReadBounds = ReadBounds { max_bytes: 1 << 20, max_files: 1_000, max_total: 1 << 30 };

/// Everything that can happen to a path, in a handful of commits; gives them, oldest first.
async fn busy() -> (Fixture, Vec<Commit>) {
    let fixture = Fixture::new().await;
    fixture.write("daemons/a/daemon.yaml", "daemon: {}\n");
    fixture.write("daemons/a/prompts/one.md", "one\n");
    fixture.write("daemons/b/daemon.yaml", "daemon: {}\n");
    fixture.write("run.sh", "#!/bin/sh\n");
    fixture.write("becomes-a-directory", "x");
    fixture.write("becomes-a-file/x", "x");
    fixture.write("moved/from", "the same content, long enough to be taken for a rename\n");
    let mut commits = vec![fixture.commit("first")];
    fixture.write("daemons/a/prompts/one.md", "two\n");
    fixture.make_executable("run.sh");
    commits.push(fixture.commit("second"));
    std::fs::remove_file(fixture.work.join("becomes-a-directory")).unwrap();
    std::fs::remove_dir_all(fixture.work.join("becomes-a-file")).unwrap();
    fixture.write("becomes-a-directory/y", "x");
    fixture.write("becomes-a-file", "x");
    std::os::unix::fs::symlink("run.sh", fixture.work.join("link")).unwrap();
    fixture.run(["mv", "moved/from", "moved/to"]);
    commits.push(fixture.commit("third"));
    fixture.run(["checkout", "--quiet", "-b", "side"]);
    fixture.write("side.txt", "side\n");
    fixture.commit("side");
    fixture.run(["checkout", "--quiet", "main"]);
    fixture.run(["rm", "-r", "--quiet", "daemons/b"]);
    commits.push(fixture.commit("fourth"));
    fixture.run(["merge", "--quiet", "--no-ff", "-m", "merged", "side"]);
    commits.push(fixture.head());
    fixture.run(["tag", "light"]);
    fixture.run(["tag", "-a", "-m", "with a message", "v1.0.0", "HEAD~1"]);
    fixture.run(["tag", "-a", "-m", "a tag of a tag", "twice", "v1.0.0"]);
    fixture.run(["tag", "a-tree", "HEAD^{tree}"]);
    fixture.fetch().await;
    (fixture, commits)
}

#[tokio::test]
async fn branches_and_tags_are_where_git_says() {
    let (fixture, commits) = busy().await;
    let branches = fixture.git.branches(REPOSITORY).await.unwrap();
    let side = commit(&fixture.run(["rev-parse", "side"]));
    assert_eq!(branches, [(branch("main"), commits[4].clone()), (branch("side"), side)]);
    let tag = async |name: &str| fixture.git.tag(REPOSITORY, &Tag::parse(name).unwrap()).await.unwrap();
    assert_eq!(tag("light").await.as_ref(), Some(&commits[4]));
    assert_eq!(tag("v1.0.0").await.as_ref(), Some(&commits[3]));
    assert_eq!(tag("twice").await.as_ref(), Some(&commits[3]));
    assert_eq!(tag("a-tree").await, None);
    assert_eq!(tag("main").await, None);
}

#[tokio::test]
async fn a_line_follows_first_parents() {
    let (fixture, commits) = busy().await;
    let line = async |from: Option<&Commit>, to: &Commit, most| {
        fixture.git.line(REPOSITORY, from, to, most).await.unwrap()
    };
    let listed = fixture.run(["rev-list", "--first-parent", "--reverse", &format!("{}..main", commits[0])]);
    let expect: Vec<Commit> = listed.lines().map(commit).collect();
    assert_eq!(line(Some(&commits[0]), &commits[4], 100).await, expect);
    assert_eq!(line(Some(&commits[0]), &commits[4], 2).await, expect[2..]);
    assert_eq!(line(Some(&commits[4]), &commits[4], 100).await, []);
    assert_eq!(line(None, &commits[4], 100).await, [commits[4].clone()]);
    let side = commit(&fixture.run(["rev-parse", "side"]));
    assert_eq!(line(Some(&side), &commits[4], 100).await, [commits[4].clone()]);
    let absent = commit("1111111111111111111111111111111111111111");
    assert!(matches!(fixture.git.line(REPOSITORY, None, &absent, 1).await, Err(SourceError::NotFound(_))));
}

/// What git says, in our words.
fn git_changes(fixture: &Fixture, from: &str, to: &str) -> Vec<PathChange> {
    let text = fixture.run(["diff-tree", "-r", "--no-renames", "--name-status", from, to]);
    let mut changes: Vec<PathChange> = text
        .lines()
        .map(|line| {
            let (status, path) = line.split_once('\t').unwrap();
            let kind = match status {
                "A" => ChangeKind::Added,
                "D" => ChangeKind::Removed,
                _ => ChangeKind::Modified,
            };
            PathChange { path: path.into(), kind }
        })
        .collect();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

#[tokio::test]
async fn changes_are_those_of_git() {
    let (fixture, commits) = busy().await;
    for from in &commits {
        for to in &commits {
            let ours = fixture.git.changes(&fixture.view(), Some(from), to).await.unwrap();
            assert_eq!(ours, git_changes(&fixture, from.as_str(), to.as_str()), "{from}..{to}");
        }
    }
    let empty_tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    let ours = fixture.git.changes(&fixture.view(), None, &commits[2]).await.unwrap();
    assert_eq!(ours, git_changes(&fixture, empty_tree, commits[2].as_str()));
}

#[tokio::test]
async fn diffs_are_those_of_git_and_attributes_hide_nothing() {
    let (fixture, mut commits) = busy().await;
    let (from, to) = (&commits[1].clone(), &commits[3].clone());
    let diff = fixture.git.diff(REPOSITORY, from, to, 1 << 20).await.unwrap();
    let git =
        fixture.run(["diff-tree", "-r", "-p", "--no-renames", "--full-index", from.as_str(), to.as_str()]);
    assert_eq!(diff.patch.trim_end(), git);
    assert_eq!(diff.files, git_changes(&fixture, from.as_str(), to.as_str()));
    assert!(!diff.truncated);
    let cut = fixture.git.diff(REPOSITORY, from, to, 300).await.unwrap();
    assert!(cut.truncated && cut.patch.len() <= 300 && diff.patch.starts_with(&cut.patch), "{}", cut.patch);
    fixture.write(".gitattributes", "* -diff\n");
    fixture.write("run.sh", "#!/bin/sh\necho changed\n");
    commits.push(fixture.commit("hidden"));
    fixture.fetch().await;
    let hidden = fixture.git.diff(REPOSITORY, &commits[4], &commits[5], 1 << 20).await.unwrap();
    assert!(hidden.patch.contains("+echo changed"), "{}", hidden.patch);
    let none = fixture.git.diff(REPOSITORY, to, to, 10).await.unwrap();
    assert!(none.patch.is_empty() && none.files.is_empty() && !none.truncated);
}

#[tokio::test]
async fn directories_are_listed_and_read() {
    let (fixture, commits) = busy().await;
    let (view, third) = (fixture.view(), &commits[2]);
    let listed = fixture.git.list(&view, third, "").await.unwrap();
    let names: Vec<(&str, EntryKind)> =
        listed.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    assert_eq!(
        names,
        [
            ("becomes-a-directory", EntryKind::Directory),
            ("becomes-a-file", EntryKind::File),
            ("daemons", EntryKind::Directory),
            ("link", EntryKind::Symlink),
            ("moved", EntryKind::Directory),
            ("run.sh", EntryKind::File),
        ]
    );
    for entry in &listed {
        assert_eq!(entry.object, fixture.run(["rev-parse", &format!("{third}:{}", entry.name)]));
    }
    assert!(fixture.git.list(&view, third, "daemons/none").await.unwrap().is_empty());
    assert!(fixture.git.list(&view, third, "run.sh").await.unwrap().is_empty());
    assert!(fixture.git.list(&view, third, "../work").await.unwrap().is_empty());
    let wanted = ["daemons/a", "daemons/none", "daemons", "run.sh", ""].map(String::from);
    let read = fixture.git.directories(&view, third, &wanted, BOUNDS).await.unwrap();
    let paths: Vec<&str> = read.iter().map(|directory| directory.path.as_str()).collect();
    assert_eq!(paths, ["daemons/a", "daemons", ""]);
    for directory in &read {
        let tree = fixture.run(["rev-parse", &format!("{third}:{}", directory.path)]);
        assert_eq!(directory.digest.as_str(), tree);
    }
    let files: Vec<&str> = read[0].files.paths().collect();
    assert_eq!(files, ["daemon.yaml", "prompts/one.md"]);
    assert_eq!(read[0].files.bytes("prompts/one.md"), Some(&b"two\n"[..]));
    assert_eq!(read[2].files.get("link"), Some(&File::Symlink));
}

#[tokio::test]
async fn many_directories_are_read_as_few_are() {
    let fixture = Fixture::new().await;
    let paths: Vec<String> = (0..40).map(|n| format!("daemons/d{n}")).collect();
    for path in &paths {
        fixture.write(&format!("{path}/daemon.yaml"), path);
    }
    let head = fixture.commit("many");
    fixture.fetch().await;
    let all = fixture.git.directories(&fixture.view(), &head, &paths, BOUNDS).await.unwrap();
    assert_eq!(all.len(), 40);
    for (path, directory) in paths.iter().zip(all) {
        let one = fixture
            .git
            .directories(&fixture.view(), &head, std::slice::from_ref(path), BOUNDS)
            .await
            .unwrap();
        assert_eq!(one, [directory]);
    }
}

#[tokio::test]
async fn reading_is_bounded() {
    let (fixture, commits) = busy().await;
    let (view, third) = (fixture.view(), &commits[2]);
    let file = async |path: &str, most| fixture.git.file(&view, third, path, most).await.unwrap();
    assert_eq!(file("daemons/a/prompts/one.md", 4).await, Some(File::Regular(b"two\n".into())));
    assert_eq!(file("daemons/a/prompts/one.md", 3).await, Some(File::Large(4)));
    assert_eq!(file("link", 100).await, Some(File::Symlink));
    assert_eq!(file("daemons", 100).await, None);
    assert_eq!(file("", 100).await, None);
    assert_eq!(file("link/x", 100).await, None);
    let wanted = ["daemons".to_owned()];
    let few = ReadBounds { max_bytes: 100, max_files: 1, max_total: 1 << 30 };
    let read = fixture.git.directories(&view, third, &wanted, few).await.unwrap();
    let whole =
        |read: &[Directory]| read[0].files.paths().filter(|path| read[0].files.bytes(path).is_some()).count();
    assert_eq!((whole(&read), read[0].files.paths().count()), (1, 3));
    let small = ReadBounds { max_bytes: 100, max_files: 100, max_total: 5 };
    let read = fixture.git.directories(&view, third, &wanted, small).await.unwrap();
    assert_eq!((whole(&read), read[0].files.paths().count()), (1, 3));
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let (fixture, commits) = busy().await;
    let nowhere = View::of(crate::fixture::OTHER);
    let read = fixture.git.list(&nowhere, &commits[0], "").await;
    assert!(matches!(read, Err(SourceError::NotFound(_))), "{read:?}");
    // A tree's or a tag's id is no commit, and never stands for one.
    let tree = commit(&fixture.run(["rev-parse", "main^{tree}"]));
    let read = fixture.git.list(&fixture.view(), &tree, "").await;
    assert!(matches!(read, Err(SourceError::NotFound(_))), "{read:?}");
}
