//! Webhooks of forges that are configured with a token, at the real server.

use domain::signature::Signature;
use serde_json::json;
use tempfile::TempDir;

use crate::house::House;

/// A server that knows a Forgejo and a GitLab, at an address where nobody is.
fn server(secrets: &TempDir) -> House {
    let at = |name: &str, text: &str| {
        let path = secrets.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (token, secret) = (at("token", "made-up\n"), at("secret", "a secret\n"));
    let forge = |name: &str, kind: &str, api: &str| {
        format!(
            "[[forges]]\nname = '{name}'\nkind = '{kind}'\nurl = 'http://127.0.0.1:9/{api}'\n\
             token = {{ file = '{token}' }}\nwebhook_secrets = [{{ file = '{secret}' }}]\n\
             allow_http = true\nallow_private = true\n"
        )
    };
    House::with_config(&[forge("codeberg", "forgejo", "f"), forge("lab", "gitlab", "g")].join("\n"))
}

#[test]
fn webhooks_are_let_in_with_the_secret_only() {
    let secrets = TempDir::new().unwrap();
    let house = server(&secrets);
    let body =
        json!({ "repository": { "id": 7, "full_name": "acme/app" }, "ref": "refs/heads/main" }).to_string();
    let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    let call = |forge: &str, headers: &[(&str, &str)]| {
        let mut call = client.post(format!("{}/hooks/forges/{forge}", house.url)).body(body.clone());
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        call.send().unwrap().status().as_u16()
    };
    let digits =
        |secret: &str| Signature::of(secret, &[body.as_bytes()]).written()["sha256=".len()..].to_owned();
    let (event, delivery) = (("x-forgejo-event", "push"), ("x-forgejo-delivery", "f6266f16-1bf3-46a5"));
    assert_eq!(call("codeberg", &[event, delivery, ("x-forgejo-signature", &digits("a secret"))]), 202);
    assert_eq!(call("codeberg", &[event, delivery, ("x-forgejo-signature", &digits("another"))]), 401);
    assert_eq!(call("codeberg", &[event, delivery]), 401);

    let event = ("x-gitlab-event", "Push Hook");
    assert_eq!(call("lab", &[event, ("x-gitlab-token", "a secret")]), 202);
    assert_eq!(call("lab", &[event, ("x-gitlab-token", "another")]), 401);
    assert_eq!(call("lab", &[event]), 401);
}
