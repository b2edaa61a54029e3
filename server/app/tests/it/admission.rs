//! A push and the API judge the same files alike.

use std::collections::BTreeSet;

use serde_json::json;

use crate::house::House;

const CALLEE: &str = "daemon:
  name: Summarize
  inputs:
    - { name: text }
    - { name: depth, default: quick }
  stages:
    - { name: A, script: ls }
";

/// A daemon that calls another.
fn caller(uses: &str) -> String {
    format!("daemon:\n  name: Caller\n  stages:\n    - {{ name: A, type: daemon, uses: {uses} }}\n")
}

/// The codes in a text.
fn codes(text: &str) -> BTreeSet<String> {
    let code = |at: usize| text.get(at..at + 6).filter(|code| code[2..].bytes().all(|b| b.is_ascii_digit()));
    text.match_indices("SB").filter_map(|(at, _)| code(at)).map(str::to_owned).collect()
}

#[test]
fn a_push_and_the_api_say_the_same_of_the_same_files() {
    let house = House::new();
    let check = |name: &str, files: &[(&str, &str)], is_valid: bool, expect: &[&str], hint: &str| {
        let given: Vec<_> = files.iter().map(|(path, text)| json!({ "path": path, "text": text })).collect();
        let (status, said) = house.post("validate", &json!({ "files": given }));
        assert_eq!((status, &said["valid"]), (200, &json!(is_valid)), "{name}: {said}");
        let tree = house.work_tree(&format!("ada/{name}"));
        for (path, text) in files {
            tree.write(path, text);
        }
        tree.commit("All of it");
        let (accepted, shown) = tree.push(&["main"]);
        assert_eq!(accepted, is_valid, "{name}: {shown}");
        let expect: BTreeSet<String> = expect.iter().map(ToString::to_string).collect();
        assert_eq!(codes(&said.to_string()), expect, "{name}: {said}");
        assert_eq!(codes(&shown), expect, "{name}: {shown}");
        assert!(shown.contains(hint) && said.to_string().contains(hint), "{name}: {shown}\n{said}");
    };
    let (callee, own) = ("daemons/summarize/daemon.yaml", "daemons/caller/daemon.yaml");
    check("right", &[(callee, CALLEE), (own, &caller("./summarize, inputs: { text: a }"))], true, &[], "");
    let newer = "requires: \">=99\"\n";
    for file in ["spellbook.yaml", "spellbook.yml"] {
        let name = file.replace('.', "-");
        check(&name, &[(callee, CALLEE), (file, newer)], false, &["SB1006"], "need Spellbook `>=99`");
    }
    check("slip", &[(callee, CALLEE), (own, &caller("./sumarize"))], true, &["SB0514"], "`./summarize`?");
    check("nobody", &[(own, &caller("./nobody"))], true, &["SB0514"], "daemons/nobody/daemon.yaml");
    let inside = "daemon:\n  name: Each\n  stages:\n    - name: A\n      type: foreach\n      items: \"${event.labels}\"\n      stages:\n        - { name: B, type: daemon, uses: ./sumarize }\n";
    check("inside", &[(callee, CALLEE), (own, inside)], true, &["SB0514"], "`./summarize`?");
    let inputs = caller("./summarize, inputs: { text: a, dept: deep }");
    check("inputs", &[(callee, CALLEE), (own, &inputs)], true, &["SB0515"], "`depth`?");
    let elsewhere = [
        ("spellbook.yaml", "daemons: [\"tools/*\"]\n"),
        ("tools/far/daemon.yaml", CALLEE),
        (own, &caller("./far, inputs: { text: a }")),
    ];
    check("elsewhere", &elsewhere, true, &[], "");
}
