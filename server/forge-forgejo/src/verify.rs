//! Whether a webhook is Forgejo's: its signature over the body as it came, then the form of its headers.

use domain::signature::Signature;
use ports::forge::{Headers, Signed, Unsigned};
use secrecy::{ExposeSecret, SecretString};

/// As Forgejo and Gitea write it, in plain hexadecimal.
const SIGNATURES: [&str; 2] = ["x-forgejo-signature", "x-gitea-signature"];
const EVENTS: [&str; 2] = ["x-forgejo-event", "x-gitea-event"];
const DELIVERIES: [&str; 2] = ["x-forgejo-delivery", "x-gitea-delivery"];

/// Checks a webhook under the secrets that are configured: one, or two while the new one takes the other's
/// place. Without any nobody is let in.
///
/// # Errors
/// When it is not signed with one of them, or the forge's own headers are not as it writes them.
pub fn verify(secrets: &[SecretString], headers: &dyn Headers, body: &[u8]) -> Result<Signed, Unsigned> {
    let one_of = |names: [&str; 2]| names.into_iter().find_map(|name| headers.one(name));
    let given = one_of(SIGNATURES).and_then(|digits| Signature::parse(&format!("sha256={digits}")));
    let given = given.ok_or(Unsigned::Missing)?;
    let secrets = || secrets.iter().map(ExposeSecret::expose_secret);
    if !given.holds(secrets(), &[body]) {
        return Err(if secrets().all(str::is_empty) { Unsigned::NoSecret } else { Unsigned::Wrong });
    }
    let name = one_of(EVENTS).filter(|name| is_event(name)).ok_or(Unsigned::Headers)?;
    let id = one_of(DELIVERIES).filter(|id| is_delivery(id)).ok_or(Unsigned::Headers)?;
    Ok(Signed { name: name.to_owned(), id: Some(id.to_owned()) })
}

/// `pull_request`.
fn is_event(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A UUID.
fn is_delivery(id: &str) -> bool {
    (1..=100).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{ \"action\" :\t\"\\u00fc\",\r\n \"action\": 2 }\n";

    struct Given(Vec<(&'static str, String)>);

    impl Headers for Given {
        fn one(&self, name: &str) -> Option<&str> {
            let mut given = self.0.iter().filter(|(key, _)| *key == name);
            let (_, value) = given.next()?;
            if given.next().is_some() { None } else { Some(value) }
        }
    }

    fn check(secrets: &[&str], given: &[(&'static str, &str)], expect: Result<&str, Unsigned>) {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
        let given = Given(given.iter().map(|(name, value)| (*name, (*value).to_owned())).collect());
        let got = verify(&secrets, &given, BODY).map(|signed| signed.name);
        assert_eq!(got, expect.map(str::to_owned), "{:?}", given.0);
    }

    #[test]
    fn it_is_signed_with_a_secret_that_is_configured() {
        let digits = |secret: &str| Signature::of(secret, &[BODY]).written()["sha256=".len()..].to_owned();
        let (good, id) = (digits("new"), "f6266f16-1bf3-46a5-9ea4-602e06ead473");
        let rest = [("x-gitea-event", "push"), ("x-gitea-delivery", id)];
        let with = |more: &[(&'static str, &'static str)], digits: &str| {
            let mut given: Vec<(&'static str, String)> =
                rest.iter().chain(more).map(|(name, value)| (*name, (*value).to_owned())).collect();
            given.push(("x-gitea-signature", digits.to_owned()));
            given
        };
        let check_with = |secrets: &[&str], digits: &str, expect| {
            let given = with(&[], digits);
            let given: Vec<(&'static str, &str)> =
                given.iter().map(|(name, value)| (*name, value.as_str())).collect();
            check(secrets, &given, expect);
        };
        check_with(&["new"], &good, Ok("push"));
        check_with(&["old", "new"], &good, Ok("push"));
        check_with(&["old"], &good, Err(Unsigned::Wrong));
        check_with(&[], &good, Err(Unsigned::NoSecret));
        check_with(&[""], &digits(""), Err(Unsigned::NoSecret));
        check_with(&["new"], "", Err(Unsigned::Missing));
        check_with(&["new"], &good[..63], Err(Unsigned::Missing));
        check_with(&["new"], &good.to_uppercase(), Err(Unsigned::Missing));
        check_with(&["new"], &format!("sha256={good}"), Err(Unsigned::Missing));
        check(&["new"], &rest, Err(Unsigned::Missing));
        let forgejo = [
            ("x-forgejo-signature", good.as_str()),
            ("x-forgejo-event", "issue_comment"),
            ("x-forgejo-delivery", id),
            ("x-gitea-signature", "nonsense"),
            ("x-gitea-event", "push"),
        ];
        check(&["new"], &forgejo, Ok("issue_comment"));
        for (name, value) in [("x-forgejo-event", "../x"), ("x-forgejo-delivery", "a\nb")] {
            let given: Vec<(&'static str, &str)> =
                forgejo.iter().map(|(key, there)| (*key, if *key == name { value } else { there })).collect();
            check(&["new"], &given, Err(Unsigned::Headers));
        }
        check(&["new"], &forgejo[..1], Err(Unsigned::Headers));
    }
}
