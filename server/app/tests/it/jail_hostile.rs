//! Hostile content: in pushes, in the addresses of repositories, in values, and in what programs leave
//! behind. Nothing of it is run by the server, and every refusal says why.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::house::{House, WorkTree, hermetic};
use crate::jail_stages::{Ended, book, end_of, ended, log, manifest, settled};

const GOOD: &str =
    "  stages:\n    - { name: Done, script: 'cat daemons/good/daemon.yaml | wc -l; echo fine' }\n";

/// Pushes what is committed; it must be refused in these words, and nothing of it may be there after.
#[track_caller]
fn refused(tree: &WorkTree, refspec: &str, words: &[&str]) {
    let (accepted, said) = tree.push(&["--force", refspec]);
    assert!(!accepted, "{refspec} was accepted: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
    assert!(!said.contains("root:x:"), "{said}");
}

#[test]
fn a_hostile_manifest_is_refused() {
    let house = House::new();
    let tree = book(&house, &[("good", GOOD)]);
    let aliases: String = (1..300).map(|n| format!("  - &a{n} [*a{}, *a{}]\n", n - 1, n - 1)).collect();
    let cases: [(&str, &str); 3] = [
        (&format!("x:\n  - &a0 [1]\n{aliases}"), "SB0008"),
        (&format!("{}# {}\n", manifest(GOOD), "x".repeat(2 << 20)), "SB0003"),
        (&format!("daemon: {}{}\n", "[".repeat(5_000), "]".repeat(5_000)), "SB0008"),
    ];
    let before = tree.says(&["rev-parse", "HEAD"]);
    for (text, words) in cases {
        tree.write("daemons/evil/daemon.yaml", text);
        tree.commit("Add evil");
        refused(&tree, "main", &[words, "error[SB00", "pre-receive hook declined"]);
        assert!(tree.git(&["reset", "--quiet", "--hard", &before]).status.success());
    }
    let manifest = tree.path().join("daemons/evil/daemon.yaml");
    std::fs::create_dir_all(manifest.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &manifest).unwrap();
    tree.commit("Add evil");
    refused(&tree, "main", &["SB0002", "daemons/evil"]);
    assert_eq!(house.get("repositories/ada/book/branches")["items"][0]["commit"], before.as_str());
}

#[test]
fn a_directory_that_is_a_link_is_no_daemon() {
    let house = House::new();
    let tree = book(&house, &[("good", GOOD)]);
    tree.write("elsewhere/daemon.yaml", &manifest(GOOD));
    std::os::unix::fs::symlink("../elsewhere", tree.path().join("daemons/linked")).unwrap();
    std::os::unix::fs::symlink("/etc", tree.path().join("daemons/etc")).unwrap();
    tree.commit("Add links");
    let (_, said) = tree.push(&["-o", "skip", "main"]);
    assert!(!said.contains("root:x:"), "{said}");
    for daemon in ["linked", "etc"] {
        let (status, problem) = house.post("runs", &json!({ "daemon": format!("ada/book/{daemon}") }));
        assert_eq!((status, &problem["code"]), (404, &json!("daemon_not_found")), "{problem}");
    }
    // A link in the workspace leads nowhere but into the jail.
    ended(&house, "good", &json!({})).succeeded();
}

/// The id of an object made of these bytes, without git's own checks.
fn object(tree: &WorkTree, kind: &str, bytes: &[u8]) -> String {
    std::fs::write(tree.path().join(".git/raw"), bytes).unwrap();
    tree.says(&["hash-object", "-t", kind, "-w", "--literally", ".git/raw"])
}

/// A commit whose tree has one entry with this name; `mode` as git writes it.
fn commit_with(tree: &WorkTree, mode: &str, name: &str, id: &str) -> String {
    let raw: Vec<u8> =
        (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect();
    let entry = [format!("{mode} {name}\0").as_bytes(), &raw].concat();
    let top = object(tree, "tree", &entry);
    tree.says(&["commit-tree", "-m", "Trick", &top])
}

#[test]
fn names_that_lead_into_git_are_refused() {
    let house = House::new();
    let tree = book(&house, &[("good", GOOD)]);
    let blob = object(&tree, "blob", b"[core]\n\tfsmonitor = touch /tmp/pwned\n");
    for name in [".git", ".GIT", "git~1", "..", ".", ".git ", ".git.", ".g\u{200c}it", "a/b"] {
        let commit = commit_with(&tree, "100644", name, &blob);
        refused(&tree, &format!("{commit}:refs/heads/trick"), &["remote"]);
    }
    let link = object(&tree, "blob", b"/etc/passwd");
    let commit = commit_with(&tree, "120000", ".gitmodules", &link);
    refused(&tree, &format!("{commit}:refs/heads/trick"), &["remote"]);
    let branches = house.get("repositories/ada/book/branches")["items"].clone();
    assert_eq!(branches.as_array().unwrap().len(), 1, "{branches:#}");
}

#[test]
fn what_a_run_used_stays_though_its_branch_is_rewritten_or_gone() {
    let house = House::new();
    let tree = book(&house, &[("good", GOOD)]);
    assert!(tree.push(&["main:try"]).0);
    let run = ended(&house, "good@try", &json!({}));
    assert_eq!(run.succeeded().output("Done"), "4\nfine");
    let old = tree.says(&["rev-parse", "HEAD"]);

    for reference in
        ["refs/spellbook/runs/x", "refs/spellbook/kept/x", "refs/notes/x", "refs/heads/spellbook/../x"]
    {
        refused(&tree, &format!("main:{reference}"), &[]);
    }
    let hidden = format!("refs/spellbook/runs/{}", run.id());
    refused(&tree, &format!("main:{hidden}"), &[]);
    refused(&tree, &format!(":{hidden}"), &[]);

    assert!(tree.git(&["commit", "--quiet", "--amend", "--message", "Rewritten"]).status.success());
    assert!(tree.push(&["-o", "skip", "--force", "main"]).0);
    assert!(tree.push(&[":try"]).0);
    let branches = house.get("repositories/ada/book/branches")["items"].clone();
    let names: Vec<&str> = branches.as_array().unwrap().iter().map(|b| b["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["main"]);

    let (status, again) = house.post(&format!("runs/{}/replays", run.id()), &json!({}));
    assert_eq!(status, 201, "{again}");
    let again = end_of(&house, again["id"].as_str().unwrap());
    assert_eq!(again.succeeded().run["run"]["commit"], old.as_str());
    assert!(tree.git(&["fetch", "--quiet", &tree.remote, &hidden]).status.success());
    assert_eq!(tree.says(&["rev-parse", "FETCH_HEAD~1"]), old);
}

#[test]
fn an_address_that_leads_git_astray_is_refused() {
    let house = House::new();
    let client = reqwest::blocking::Client::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = format!("http://127.0.0.1:{port}/a.git");
    for url in [
        "--upload-pack=touch /tmp/pwned",
        "-u./x",
        "ext::sh -c touch% /tmp/pwned",
        "file:///etc",
        "/etc",
        "../..",
        "fd::17/x",
        "git://127.0.0.1/a",
        "ssh://-oProxyCommand=touch/x",
        "https://ada:secret@example.com/a",
        &plain,
    ] {
        let body = json!({ "path": "ada/watched", "origin": { "kind": "watched", "url": url } });
        let request = client.post(house.api("repositories")).bearer_auth(&house.token).json(&body);
        let answer = request.send().unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{url}");
        let (status, problem) = (answer.status().as_u16(), answer.json::<Json>().unwrap());
        assert_eq!((status, &problem["code"]), (422, &json!("remote_refused")), "{url}: {problem}");
    }
    assert_eq!(house.get("repositories")["items"], json!([]));

    // What a name resolves to is known only later: refused then, before anything is connected to.
    let url = format!("https://127.0.0.1:{port}/a.git");
    let body = json!({ "path": "ada/watched", "origin": { "kind": "watched", "url": url } });
    assert_eq!(house.post("repositories", &body).0, 201);
    let (status, looked) = house.post("repositories/ada/watched/sync", &json!({}));
    assert_eq!((status, &looked["sync"]["status"]), (200, &json!("Unreachable")), "{looked:#}");
    let words = "the remote is on this machine or in a private network";
    assert!(looked["sync"]["message"].as_str().unwrap().contains(words), "{looked:#}");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

const VALUES: &str = r#"
  inputs:
    - { name: title, type: text }
    - { name: where, default: . }
  stages:
    - name: Show
      working_directory: "${where}"
      env: { own: "${title}" }
      script: |
        [ "$title" = "$own" ] && [ ! -e pwned ] && [ -e shared.txt ]
        printf '%s' "${title}"
      output: shown
    - { name: Read, input: "${title}", script: 'cat; [ ! -e pwned ] && [ -e shared.txt ]' }
    - { name: Keep, script: 'printf %s "$shown"; [ ! -e pwned ]' }
"#;

const SCHEMA: &str = r#"
  inputs:
    - { name: text, type: text }
  stages:
    - name: Make
      input: "${text}"
      script: cat
      schema: { type: object, required: [n], properties: { n: { type: integer } }, additionalProperties: false }
      output: made
    - { name: Use, type: rules, rules: [{ when: "made.n > 1", then: "${made.n}" }, { then: small }] }
"#;

#[test]
fn values_stay_data() {
    let house = House::new();
    book(&house, &[("values", VALUES), ("schema", SCHEMA)]);
    for title in [
        "$(touch pwned)",
        "`touch pwned`; rm -rf . ; rm -rf /",
        "'; touch pwned; echo '",
        "\"; touch pwned; echo \"",
        "${IFS}touch${IFS}pwned",
        "${secrets.TOKEN} ${title} $${x}",
        "a\ntouch pwned\n#",
        "-n -e \\x41",
        "\u{1b}[31mé\u{202e}",
    ] {
        let run = ended(&house, "values", &json!({ "title": title }));
        for stage in ["Show", "Read", "Keep"] {
            assert_eq!(run.succeeded().output(stage), title, "{stage}");
        }
    }
    for place in ["..", "../..", "/etc", "a/../../b", ""] {
        let run = ended(&house, "values", &json!({ "title": "x", "where": place }));
        run.check("failed", Some("working_directory_invalid"), "is not a path inside the workspace");
    }
    let make = |text: &str| ended(&house, "schema", &json!({ "text": text }));
    assert_eq!(make("{\"n\": 2}").succeeded().output("Use"), 2);
    make("n = 2").check("failed", Some("output_invalid"), "its standard output is not JSON");
    make("{\"n\": \"2\"}").check("failed", Some("output_invalid"), "does not fit its `schema`");
    make("{\"n\": 2, \"m\": 3}").check("failed", Some("output_invalid"), "does not fit its `schema`");
    make("").check("failed", Some("output_invalid"), "not JSON");
}

const GREEDY: [(&str, &str); 4] = [
    (
        "memory",
        "  limits: { memory: 64MiB }\n  stages:\n    - { name: Use, script: 'head -c 300m /dev/zero | tail -n 1 | wc -c' }\n",
    ),
    ("output", "  limits: { output: 64KiB }\n  stages:\n    - { name: Use, script: 'yes' }\n"),
    (
        "forks",
        "  limits: { processes: 40 }\n  stages:\n    - { name: Use, timeout: 1s, script: 'bomb() { bomb | bomb & }; bomb; while :; do :; done' }\n",
    ),
    ("calls", "  stages:\n    - { name: Use, script: 'unshare --user true' }\n"),
];

#[test]
fn a_greedy_program_is_ended_in_words_of_its_own() {
    let house = House::new();
    book(&house, &[GREEDY.as_slice(), &[("good", GOOD)]].concat());
    let run = |daemon: &str| ended(&house, daemon, &json!({}));
    run("memory").check("failed", Some("out_of_memory"), "Use: used more than 64 MiB of memory");
    let flood = run("output");
    flood.check("failed", Some("output_limit"), "Use: wrote far more than 64 KiB of output");
    let said = log(&house, flood.id());
    assert!(said.len() < 128 << 10, "{} bytes are kept", said.len());
    run("forks").check("timed_out", Some("timed_out"), "Use: took longer than its time limit of 1 s");
    let refused: Ended = run("calls");
    assert_eq!(refused.run["run"]["status"], "failed", "{refused:#?}");
    run("good").succeeded();
}

/// Leaves everything that git runs when it finds it; all of it writes to `MARK`.
const LEAVE: &str = r#"mkdir -p .git/hooks sub/.git/hooks
for hook in pre-commit post-checkout post-commit post-merge reference-transaction; do
  printf '#!/bin/sh\necho %s >> MARK\n' $hook > .git/hooks/$hook
  chmod +x .git/hooks/$hook
done
cp -r .git/hooks sub/.git/
for repository in .git sub/.git; do
  mkdir -p $repository/objects $repository/refs
  echo 'ref: refs/heads/main' > $repository/HEAD
  cat > $repository/config <<'CONFIG'
[core]
  repositoryformatversion = 0
  fsmonitor = "echo fsmonitor >> MARK"
  hooksPath = hooks
  sshCommand = "echo ssh >> MARK"
  editor = "echo editor >> MARK"
  pager = "echo pager >> MARK"
[filter "evil"]
  clean = "echo clean >> MARK"
  smudge = "echo smudge >> MARK"
  required = true
[diff "evil"]
  textconv = "echo textconv >> MARK"
  command = "echo diff >> MARK"
[merge "evil"]
  driver = "echo merge >> MARK"
CONFIG
done
cp .git/config .gitconfig
printf '* filter=evil diff=evil merge=evil ident\n' > .gitattributes
printf '[submodule "x"]\n\tpath = sub2\n\turl = ext::sh -c "echo submodule >> MARK"\n' > .gitmodules
echo "clean file" > plain.txt
sed -i s/one/ONE/ shared.txt"#;

const LEAVINGS: &str = r#"
  stages:
    - name: Leave
      needs: []
      script: |
        LEAVE
    - { name: Beside, needs: [], script: 'sed -i s/seven/SEVEN/ shared.txt; echo beside > beside.txt' }
    - { name: After, needs: [Leave, Beside], script: 'ls -A; [ ! -e .git/config ]; cat shared.txt | head -1' }
  outcomes:
    - create-pull-request: { title: Leave, protected_files: allowed }
"#;

/// Whether git, told nothing, runs what the script leaves: else its leavings prove nothing.
fn is_dangerous(script: &str, mark: &Path) -> bool {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("shared.txt"), "one\n").unwrap();
    let script = format!("{script}\ngit add plain.txt\n");
    let output = hermetic(Command::new("bash"), place.path())
        .args(["-c", &script])
        .current_dir(place.path())
        .output()
        .unwrap();
    let ran = std::fs::read_to_string(mark).unwrap_or_default();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(mark).unwrap();
    ran.contains("fsmonitor") && ran.contains("clean")
}

#[test]
fn the_server_runs_nothing_that_a_program_leaves() {
    let house = House::new();
    let mark = house.data.path().join("data/mark");
    let script = LEAVE.replace("MARK", mark.to_str().unwrap());
    assert!(is_dangerous(&script, &mark));
    let tree = book(&house, &[("leave", &LEAVINGS.replace("LEAVE", &script.replace('\n', "\n        ")))]);
    let run = ended(&house, "leave", &json!({}));
    let shown = run.succeeded().output("After").as_str().unwrap();
    assert!(shown.ends_with("ONE") && shown.contains("beside.txt"), "{shown}");
    settled(&house, run.id());
    for stage in ["Leave", "Beside"] {
        house.get(&format!("runs/{}/stages/{stage}/diff", run.id()));
    }
    house.get(&format!("runs/{}/diff", run.id()));
    let proposal = house.get("repositories/ada/book/proposals/1");
    assert!(proposal["diff"]["patch"].as_str().unwrap().contains("+clean file"), "{proposal:#}");
    let (status, merged) = house.post("repositories/ada/book/proposals/1/merge", &json!({}));
    assert_eq!(status, 200, "{merged}");
    assert!(tree.git(&["fetch", "--quiet", &tree.remote, "main"]).status.success());
    let files = tree.says(&["ls-tree", "-r", "--name-only", "FETCH_HEAD"]);
    assert!(files.contains("beside.txt") && !files.contains(".git/"), "{files}");
    // From then on every workspace has those attributes.
    ended(&house, "leave", &json!({}));
    assert!(!mark.exists(), "{}", std::fs::read_to_string(&mark).unwrap());
}

const PROTECTED: &str = r#"
  inputs:
    - { name: path }
  stages:
    - { name: Write, script: 'mkdir -p "$(dirname "$path")"; echo "x" > "$path"' }
  outcomes:
    - create-pull-request: { title: Change }
"#;

#[test]
fn what_decides_what_is_run_is_not_changed_without_leave() {
    let house = House::new();
    let trusted = PROTECTED.replace("title: Change", "title: Change, protected_files: allowed");
    book(&house, &[("writer", PROTECTED), ("trusted", &trusted)]);
    let propose = |daemon: &str, path: &str| {
        let run = ended(&house, daemon, &json!({ "path": path }));
        settled(&house, run.succeeded().id())["effects"][0].clone()
    };
    for path in [
        ".github/workflows/evil.yml",
        ".github/actions/x/action.yml",
        "daemons/other/daemon.yaml",
        "deep/daemon.yml",
        "spellbook.yaml",
        ".spellbook/daemons/x/run.sh",
        ".claude/settings.json",
        "docs/AGENTS.md",
        ".gitattributes",
        "CODEOWNERS",
    ] {
        let effect = propose("writer", path);
        assert_eq!(effect["status"], "refused", "{path}: {effect:#}");
        let words = "and a daemon may change it only where the outcome says `protected_files: allowed`";
        assert!(effect["message"].as_str().unwrap().contains(words), "{effect:#}");
    }
    assert_eq!(house.get("repositories/ada/book/proposals")["items"], json!([]));
    assert_eq!(propose("writer", "notes/a.md")["status"], "done");
    assert_eq!(propose("trusted", ".github/workflows/ci.yml")["status"], "done");
}

/// A call with a secret, of an address that is computed.
const CALL: &str = r#"
  inputs:
    - { name: url }
  permissions: { secrets: [TOKEN], network: { allowed: [api.example.com, "intranet.example.com:8443"] } }
  stages:
    - { name: Call, type: http, request: { url: "${url}", headers: { Authorization: "Bearer ${secrets.TOKEN}" }, json: { token: "${secrets.TOKEN}" } } }
"#;

#[test]
fn a_secret_goes_only_where_the_daemon_may_go() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let house =
        House::with_config(&format!("[network]\nallow_http = true\nallow_private = [\"{address}\"]\n"));
    let tree = book(&house, &[("call", CALL)]);
    let call = |url: &str| ended(&house, "call", &json!({ "url": url }));
    call("https://api.example.com/").check("failed", Some("secret_missing"), "the secret `TOKEN` is not set");

    let secrets = house.data.path().join("data/secrets/ada/book");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("TOKEN"), "s3cr3t-value\n").unwrap();
    // The operator allows the private address; the daemon does not name it.
    for url in [
        format!("http://{address}/"),
        format!("http://localhost:{}/", address.port()),
        format!("http://2130706433:{}/", address.port()),
        format!("http://api.example.com:{}/", address.port()),
        "https://api.example.com.evil.net/".to_owned(),
        "https://sub.api.example.com/".to_owned(),
        "https://intranet.example.com/".to_owned(),
    ] {
        let run = call(&url);
        run.check("failed", Some("host_not_allowed"), "` to `permissions.network.allowed`");
        let everything = format!("{run:?}{}{}", log(&house, run.id()), house.logged());
        assert!(!everything.contains("s3cr3t-value"), "{everything}");
    }
    for (url, words) in [
        ("file:///etc/passwd", "the address must have a host"),
        ("https://ada:pw@api.example.com/", "has a user or password in it"),
        ("https://api.example.com/\t", "has white space or a control character in it"),
        ("x", "the address cannot be read"),
    ] {
        call(url).check("failed", Some("invalid_url"), words);
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    // A daemon may name a machine; whether it is reached is the operator's to say.
    let named = CALL.replace("api.example.com,", "\"127.0.0.1:1\",");
    tree.write("daemons/call/daemon.yaml", &manifest(&named));
    tree.commit("Name a machine");
    let (accepted, said) = tree.push(&["-o", "skip", "main"]);
    assert!(accepted && said.contains("warning[SB0411]"), "{said}");
    call("http://127.0.0.1:1/").check("failed", Some("address_refused"), "127.0.0.1");
}
