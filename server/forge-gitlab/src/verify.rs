//! Whether a webhook is GitLab's: it brings the secret along, which is compared in constant time; then the form of
//! its headers. Nothing binds the secret to the body, so what a webhook says is worth no more than its secret, and
//! https is a must.

use domain::signature::Signature;
use ports::forge::{Headers, Signed, Unsigned};
use secrecy::{ExposeSecret, SecretString};

const TOKEN: &str = "x-gitlab-token";
const EVENT: &str = "x-gitlab-event";
/// The same for each try of one webhook. Of its UUIDs one is that of the webhook's settings, and the other is shared
/// by all that one of them led to.
const DELIVERY: &str = "idempotency-key";

/// Checks a webhook against the secrets that are configured: one, or two while the new one takes the other's
/// place. Without any nobody is let in.
///
/// # Errors
/// When it does not bring one of them, or GitLab's own headers are not as GitLab writes them.
pub fn verify(secrets: &[SecretString], headers: &dyn Headers) -> Result<Signed, Unsigned> {
    let given = headers.one(TOKEN).filter(|given| !given.is_empty()).ok_or(Unsigned::Missing)?;
    let known = || secrets.iter().map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty());
    // What is compared is what a key makes of both: neither their length nor where they differ shows.
    let key = "a webhook of GitLab";
    let given = Signature::of(key, &[given.as_bytes()]);
    let holds = known().fold(false, |holds, secret| holds | given.holds([key], &[secret.as_bytes()]));
    if !holds {
        return Err(if known().next().is_none() { Unsigned::NoSecret } else { Unsigned::Wrong });
    }
    let name = headers.one(EVENT).and_then(event).ok_or(Unsigned::Headers)?;
    let id = headers.one(DELIVERY).map(str::to_owned);
    if id.as_deref().is_some_and(|id| !is_delivery(id)) {
        return Err(Unsigned::Headers);
    }
    Ok(Signed { name, id })
}

/// `Merge Request Hook` is `merge_request`.
fn event(header: &str) -> Option<String> {
    let name = header.strip_suffix(" Hook")?.to_ascii_lowercase().replace(' ', "_");
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    fits.then_some(name)
}

/// A UUID.
fn is_delivery(id: &str) -> bool {
    (1..=100).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given<'a>(&'a [(&'static str, &'a str)]);

    impl Headers for Given<'_> {
        fn one(&self, name: &str) -> Option<&str> {
            let mut given = self.0.iter().filter(|(key, _)| *key == name);
            let (_, value) = given.next()?;
            if given.next().is_some() { None } else { Some(value) }
        }
    }

    fn check(secrets: &[&str], given: &[(&'static str, &str)], expect: Result<&str, Unsigned>) {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
        let got = verify(&secrets, &Given(given)).map(|signed| signed.name);
        assert_eq!(got, expect.map(str::to_owned), "{given:?}");
    }

    #[test]
    fn it_brings_a_secret_that_is_configured() {
        let event = ("x-gitlab-event", "Merge Request Hook");
        let token = |token| [event, ("x-gitlab-token", token)];
        check(&["new"], &token("new"), Ok("merge_request"));
        check(&["old", "new"], &token("new"), Ok("merge_request"));
        check(&["new", "old"], &token("new"), Ok("merge_request"));
        check(&["old"], &token("new"), Err(Unsigned::Wrong));
        check(&["new"], &token("newer"), Err(Unsigned::Wrong));
        check(&["new"], &token("ne"), Err(Unsigned::Wrong));
        check(&[], &token("new"), Err(Unsigned::NoSecret));
        check(&[""], &token("new"), Err(Unsigned::NoSecret));
        check(&["", "new"], &token(""), Err(Unsigned::Missing));
        check(&[""], &token(""), Err(Unsigned::Missing));
        check(&["new"], &[event], Err(Unsigned::Missing));
        check(&["new"], &[event, token("new")[1], token("new")[1]], Err(Unsigned::Missing));
    }

    #[test]
    fn its_headers_are_gitlabs() {
        let token = ("x-gitlab-token", "new");
        let with = |header, expect| check(&["new"], &[token, header], expect);
        with(("x-gitlab-event", "Note Hook"), Ok("note"));
        with(("x-gitlab-event", "System Hook"), Ok("system"));
        for odd in ["", "Note", " Hook", "../x Hook", "N\u{f6}te Hook"] {
            with(("x-gitlab-event", odd), Err(Unsigned::Headers));
        }
        check(&["new"], &[token], Err(Unsigned::Headers));
        let event = ("x-gitlab-event", "Push Hook");
        let signed = |id| verify(&["new".into()], &Given(&[token, event, id])).map(|signed| signed.id);
        let uuid = "13792a34-cac6-4fda-95a8-c58e00a3954e";
        assert_eq!(signed(("idempotency-key", uuid)), Ok(Some(uuid.to_owned())));
        assert_eq!(signed(("x-gitlab-event-uuid", uuid)), Ok(None));
        assert_eq!(signed(("idempotency-key", "a\nb")), Err(Unsigned::Headers));
    }
}
