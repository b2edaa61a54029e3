//! How fast a server is there, and what strangers get.

use serde_json::json;

use crate::house::House;

#[test]
fn nothing_is_writable_without_a_token() {
    let house = House::new();
    let client = reqwest::blocking::Client::new();
    for path in ["runs", "repositories", "tokens"] {
        let answer = client.post(house.api(path)).json(&json!({})).send().unwrap();
        assert_eq!(answer.status().as_u16(), 401, "POST {path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    let mut stranger = house.work_tree("ada/book");
    stranger.write("README.md", "hello");
    stranger.commit("Say hello");
    let remote = stranger.remote.clone();
    stranger.remote = remote.clone();
    let output = std::process::Command::new("git")
        .args(["push", &remote, "main"])
        .current_dir(stranger.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(house.get("repositories")["items"], json!([]));
}

#[test]
fn a_sign_in_token_is_good_once_and_a_lost_one_is_replaced() {
    let mut house = House::new();
    house.kill();
    let again = house.start();
    assert_eq!(again["sign_in_token"], json!(null), "somebody has signed in");
    assert_eq!(house.get("me")["account"]["name"], "admin");
}
