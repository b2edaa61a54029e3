//! Whether a webhook is GitHub's: its signature over the body as it came, then the form of its headers.

use domain::signature::Signature;
use ports::forge::{Headers, Signed, Unsigned};
use secrecy::{ExposeSecret, SecretString};

const SIGNATURE: &str = "x-hub-signature-256";
const EVENT: &str = "x-github-event";
const DELIVERY: &str = "x-github-delivery";

/// Checks a webhook under the secrets that are configured: one, or two while the new one takes the other's
/// place. Without any nobody is let in.
///
/// # Errors
/// When it is not signed with one of them, or GitHub's own headers are not as GitHub writes them.
pub fn verify(secrets: &[SecretString], headers: &dyn Headers, body: &[u8]) -> Result<Signed, Unsigned> {
    let given = headers.one(SIGNATURE).and_then(Signature::parse).ok_or(Unsigned::Missing)?;
    let secrets = || secrets.iter().map(ExposeSecret::expose_secret);
    if !given.holds(secrets(), &[body]) {
        return Err(if secrets().all(str::is_empty) { Unsigned::NoSecret } else { Unsigned::Wrong });
    }
    let name = headers.one(EVENT).filter(|name| is_event(name)).ok_or(Unsigned::Headers)?;
    let id = headers.one(DELIVERY).filter(|id| is_delivery(id)).ok_or(Unsigned::Headers)?;
    Ok(Signed { name: name.to_owned(), id: Some(id.to_owned()) })
}

/// `pull_request`.
fn is_event(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A UUID on github.com; others number theirs.
fn is_delivery(id: &str) -> bool {
    (1..=100).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{ \"zen\" :\t\"\\u00fc\",\r\n \"zen\": 2 }\n";

    struct Given(Vec<(&'static str, String)>);

    impl Headers for Given {
        fn one(&self, name: &str) -> Option<&str> {
            let mut given = self.0.iter().filter(|(key, _)| *key == name);
            let (_, value) = given.next()?;
            if given.next().is_some() { None } else { Some(value) }
        }
    }

    fn headers(signature: String) -> Given {
        let rest =
            [(EVENT, "ping".to_owned()), (DELIVERY, "72d3162e-cc78-11e3-81ab-4c9367dc0958".to_owned())];
        Given(rest.into_iter().chain([(SIGNATURE, signature)]).collect())
    }

    fn check(secrets: &[&str], given: &Given, expect: Result<&str, Unsigned>) {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
        let got = verify(&secrets, given, BODY).map(|signed| signed.name);
        assert_eq!(got, expect.map(str::to_owned), "{:?}", given.0);
    }

    #[test]
    fn it_is_signed_with_a_secret_that_is_configured() {
        let good = headers(Signature::of("new", &[BODY]).written());
        check(&["new"], &good, Ok("ping"));
        check(&["old", "new"], &good, Ok("ping"));
        check(&["old"], &good, Err(Unsigned::Wrong));
        check(&["", "old"], &good, Err(Unsigned::Wrong));
        let mut twice = headers(Signature::of("new", &[BODY]).written());
        twice.0.push(twice.0[2].clone());
        check(&["new"], &twice, Err(Unsigned::Missing));
        for wrong in ["", "sha256=", "sha1=0123456789012345678901234567890123456789"] {
            check(&["new"], &headers(wrong.to_owned()), Err(Unsigned::Missing));
        }
        let upper = Signature::of("new", &[BODY]).written().to_uppercase().replace("SHA256", "sha256");
        check(&["new"], &headers(upper), Err(Unsigned::Missing));
    }

    #[test]
    fn without_a_secret_nobody_is_let_in() {
        for key in ["", "none"] {
            let given = headers(Signature::of(key, &[BODY]).written());
            check(&[], &given, Err(Unsigned::NoSecret));
            check(&[""], &given, Err(Unsigned::NoSecret));
            check(&["", ""], &given, Err(Unsigned::NoSecret));
        }
    }

    #[test]
    fn its_other_headers_are_looked_at_once_it_is_signed() {
        let odd = "x".repeat(101);
        for (name, value) in [
            (EVENT, ""),
            (EVENT, "Ping"),
            (EVENT, "a b"),
            (EVENT, &*odd),
            (DELIVERY, ""),
            (DELIVERY, "a\tb"),
            (DELIVERY, "../x"),
            (DELIVERY, &*odd),
        ] {
            let mut given = headers(Signature::of("new", &[BODY]).written());
            given.0.retain(|(key, _)| *key != name);
            check(&["new"], &given, Err(Unsigned::Headers));
            given.0.push((name, value.to_owned()));
            check(&["new"], &given, Err(Unsigned::Headers));
            check(&["other"], &given, Err(Unsigned::Wrong));
        }
    }
}
