//! Addresses of a forge: which it may have, and which are its own.

use ports::source::RemotePolicy;

/// Says which rule an address of a forge breaks.
///
/// # Errors
/// The rule, to be read after the address.
pub fn check_address(url: &str, allow: RemotePolicy) -> Result<(), &'static str> {
    let Ok(parsed) = reqwest::Url::parse(url) else { return Err("is no address") };
    if parsed.host_str().is_none() || !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("must be a host's, without a user's name or password");
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err("must have neither a query nor a fragment");
    }
    match parsed.scheme() {
        "https" => Ok(()),
        "http" if allow.plain_http => Ok(()),
        _ => Err("must begin with https://"),
    }
}

/// The path of a repository at an address for people or git, when it is on the forge at `web_url`.
pub fn path_at<'u>(web_url: &str, url: &'u str) -> Option<&'u str> {
    let web = web_url.trim_end_matches('/');
    let host = web.split_once("://").map_or(web, |(_, host)| host);
    let rest = [format!("{web}/"), format!("git@{host}:"), format!("ssh://git@{host}/")]
        .iter()
        .find_map(|start| url.strip_prefix(start.as_str()))?;
    let path = rest.trim_end_matches('/');
    Some(path.strip_suffix(".git").unwrap_or(path))
}
