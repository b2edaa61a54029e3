//! Addresses of repositories to watch, refused at the door when git could be led astray by them.
//! What a name resolves to is checked again where the connection is made.

use ports::source::RemotePolicy;

use crate::problem::Problem;

/// Says no to an address that may not be watched.
pub(crate) fn check(url: &str, policy: RemotePolicy) -> Result<(), Problem> {
    rule(url, policy).map_err(|rule| {
        let detail = format!("`origin.url` cannot be watched: {rule}");
        Problem::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "remote_refused", detail)
    })
}

fn rule(url: &str, policy: RemotePolicy) -> Result<(), &'static str> {
    if url.len() > 2_000 || url.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("it must be at most 2000 characters without spaces, backslashes and line breaks");
    }
    if url.starts_with('/') || url.starts_with("file://") {
        return if policy.file { Ok(()) } else { Err("local paths are not allowed by the operator") };
    }
    let (scheme, rest) =
        url.split_once("://").ok_or("write it as https://host/path or ssh://user@host/path")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    match scheme {
        "https" => {}
        "http" if policy.plain_http => {}
        "http" => return Err("use https; plain http is not allowed by the operator"),
        "ssh" => {}
        _ => return Err("only https and ssh are spoken"),
    }
    match user {
        Some(_) if scheme != "ssh" => {
            return Err("leave the credential out and name a secret in `origin.credential`");
        }
        Some(user) if user.contains([':', '@']) || user.starts_with('-') || user.is_empty() => {
            return Err("the user before `@` must be a plain name");
        }
        Some(_) | None => {}
    }
    if host.is_empty() || host.starts_with('-') || host.starts_with(':') {
        return Err("there is no host in it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: RemotePolicy, allowed: &[&str], refused: &[&str]) {
        for url in allowed {
            assert_eq!(rule(url, policy), Ok(()), "{url}");
        }
        for url in refused {
            assert!(rule(url, policy).is_err(), "{url:?} was allowed");
        }
    }

    #[test]
    fn only_https_and_ssh_without_credentials() {
        check(
            RemotePolicy::default(),
            &[
                "https://git.example.com/a/b.git",
                "https://[2001:db8::1]:8443/a",
                "ssh://git@git.example.com/a/b.git",
            ],
            &[
                "",
                "--upload-pack=touch X",
                "-u",
                "ext::sh -c x",
                "file:///etc",
                "/srv/git/a",
                "git://host/a",
                "http://host/a",
                "https://user:secret@host/a",
                "https://token@host/a",
                "https://a@b@host/",
                "ssh://-oProxyCommand=x/a",
                "ssh://-oProxyCommand=x@host/a",
                "ssh://u:p@host/a",
                "https://",
                "https:///a",
                "https://host/a\nb",
                "https://host/a\rb",
                "https://ho st/a",
                "host:path",
                "HTTPS:\\\\host",
            ],
        );
    }

    #[test]
    fn the_operator_may_allow_more() {
        let policy = RemotePolicy { file: true, plain_http: true, private_addresses: true };
        check(
            policy,
            &["file:///srv/a", "/srv/a", "http://host/a"],
            &["http://user@host/a", "git://host/a", "./a"],
        );
    }
}
