//! A newer catalogue: read strictly, whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use ports::clock::Clock;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Facts, File};
use crate::client;
use crate::provider;

/// The largest catalogue, bytes.
pub const CATALOGUE_MAX: usize = 8 << 20;

/// The most rows.
const ROWS_MAX: usize = 10_000;

/// The longest name, source or the like, characters.
const TEXT_MAX: usize = 200;

/// How long fetching one may take.
const FETCH_MAX: Duration = Duration::from_secs(60);

/// A catalogue that was understood.
#[derive(Debug, Clone)]
pub struct Update(pub(crate) File);

/// Why a catalogue is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// It is no catalogue.
    #[error("it is no catalogue of models: {0}")]
    Malformed(String),
    /// One of its rows is not as it should be.
    #[error("its row {row}{} {why}", .model.as_ref().map(|model| format!(" ({model})")).unwrap_or_default())]
    Row {
        /// Which, from 1.
        row: usize,
        /// `provider/id`, as far as it says.
        model: Option<String>,
        /// What is wrong.
        why: String,
    },
    /// It is not to be had.
    #[error("{0}")]
    Unfetched(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    date: String,
    aliases: BTreeMap<String, String>,
    #[serde(borrow)]
    models: Vec<&'a RawValue>,
}

impl Update {
    /// Reads one. The clock says which dates are in the future: such a row would never grow old.
    ///
    /// # Errors
    /// When anything in it is not as it should be; of a row with its number.
    pub fn read(text: &[u8], clock: &dyn Clock) -> Result<Self, CatalogueError> {
        let malformed = CatalogueError::Malformed;
        if text.len() > CATALOGUE_MAX {
            return Err(malformed(too_large()));
        }
        if !is_object(text) {
            return Err(malformed("it is no JSON object".to_owned()));
        }
        let written: Written<'_> =
            serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        let today = today(clock).ok_or_else(|| malformed("this machine's clock is wrong".to_owned()))?;
        dated(&written.date, today).map_err(|why| malformed(format!("it {why}")))?;
        if written.models.is_empty() || written.models.len() > ROWS_MAX {
            return Err(malformed(format!("it has {} models, not 1 to {ROWS_MAX}", written.models.len())));
        }
        for text in written.aliases.iter().flat_map(|(name, target)| [name, target]) {
            worded(text).map_err(|why| malformed(format!("a name among its aliases {why}")))?;
        }
        let models = rows(&written.models, today)?;
        Ok(Self(File { date: written.date, aliases: written.aliases, models }))
    }
}

/// Gets one from an address of the operator's: `https://`, or on this machine itself `http://` too.
/// Redirects are not followed.
///
/// # Errors
/// When the address may not be used, or there is nothing of bearable size at it.
pub async fn fetch(address: &str) -> Result<Vec<u8>, CatalogueError> {
    let failed = CatalogueError::Unfetched;
    let url = Url::parse(address).map_err(|error| failed(format!("`{address}` is no address: {error}")))?;
    if url.scheme() != "https" && !(url.scheme() == "http" && is_here(&url)) {
        let why = "a catalogue is fetched over https only; bring it yourself, and name the file";
        return Err(failed(why.to_owned()));
    }
    client::install_tls();
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(client::USER_AGENT)
        .timeout(FETCH_MAX)
        .build()
        .map_err(|error| failed(format!("the HTTP client cannot be made: {error}")))?;
    let away = |error: reqwest::Error| failed(format!("it cannot be fetched: {}", error.without_url()));
    let response = http.get(url).send().await.map_err(away)?;
    let status = response.status();
    if status.as_u16() != 200 {
        let hint = if status.is_redirection() { "; redirects are not followed" } else { "" };
        return Err(failed(format!("it cannot be fetched: the server answered {}{hint}", status.as_u16())));
    }
    let mut body = response.bytes_stream();
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        all.extend_from_slice(&piece.map_err(away)?);
        if all.len() > CATALOGUE_MAX {
            return Err(failed(too_large()));
        }
    }
    Ok(all)
}

fn too_large() -> String {
    format!("it is larger than {} MiB", CATALOGUE_MAX >> 20)
}

fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn rows(texts: &[&RawValue], today: Date) -> Result<Vec<Facts>, CatalogueError> {
    let builtin = provider::builtin();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut models = Vec::with_capacity(texts.len());
    for (row, text) in (1..).zip(texts) {
        let refused = |why: String| CatalogueError::Row { row, model: named(text.get()), why };
        let facts = facts(text.get(), today).map_err(refused)?;
        let provider = builtin.get(&facts.provider);
        let speaks = |dialect| {
            provider.is_none_or(|known| known.dialect == Some(dialect) || known.also.contains_key(&dialect))
        };
        if !speaks(facts.dialect) {
            let why = format!("is asked in {}, which its provider does not speak", facts.dialect);
            return Err(refused(why));
        }
        if let Some(first) = seen.insert(facts.key(), row) {
            return Err(refused(format!("is there already, in row {first}")));
        }
        models.push(facts);
    }
    Ok(models)
}

/// The row that a text is.
fn facts(text: &str, today: Date) -> Result<Facts, String> {
    if !is_object(text.as_bytes()) {
        return Err("is no JSON object".to_owned());
    }
    let facts: Facts = serde_json::from_str(text).map_err(|error| {
        let words = error.to_string();
        format!("is not understood: {}", words.split(" at line").next().unwrap_or_default())
    })?;
    provider::check_name(&facts.provider).map_err(|why| format!("has no good `provider`: {why}"))?;
    for (field, text) in [("id", &facts.id), ("source", &facts.source)] {
        worded(text).map_err(|why| format!("has an `{field}` that {why}"))?;
    }
    if [facts.context, facts.output].contains(&Some(0)) {
        return Err("has a `context` or an `output` of no tokens".to_owned());
    }
    let date = facts.date.as_deref().ok_or("has no `date`")?;
    dated(date, today)?;
    Ok(facts)
}

/// A list would be read as the fields of a row in the order of our own code.
fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

/// What a row calls itself, for an error about it.
fn named(text: &str) -> Option<String> {
    let row: Value = serde_json::from_str(text).ok()?;
    let name = format!("{}/{}", row["provider"].as_str()?, row["id"].as_str()?);
    Some(name.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect())
}

fn worded(text: &str) -> Result<(), String> {
    let fits = (1..=TEXT_MAX).contains(&text.chars().count());
    if fits && !text.trim().is_empty() && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("is not 1 to {TEXT_MAX} characters of one line"))
}

/// A day, `2026-10-30`, or a month. Not after tomorrow: some machines are ahead of others.
fn dated(date: &str, today: Date) -> Result<(), String> {
    let whole = if date.len() == 7 { format!("{date}-01") } else { date.to_owned() };
    let day: Option<Date> = whole.parse().ok().filter(|_| whole.len() == 10);
    match day {
        None => Err(format!("has a `date` that is no day: `{}`", date.chars().take(20).collect::<String>())),
        Some(day) if today.checked_add(1.day()).is_ok_and(|latest| day > latest) => {
            Err(format!("has a `date` in the future: {date}"))
        }
        Some(_) => Ok(()),
    }
}

fn today(clock: &dyn Clock) -> Option<Date> {
    let now = jiff::Timestamp::from_millisecond(clock.now().millis()).ok()?;
    Some(now.to_zoned(TimeZone::UTC).date())
}

#[cfg(test)]
mod tests {
    use testkit::FixedClock;

    use super::super::{Catalogue, DATA, Origin};
    use super::*;

    fn file(date: &str, rows: &[&str]) -> String {
        format!(r#"{{"date":"{date}","aliases":{{}},"models":[{}]}}"#, rows.join(","))
    }

    fn row(id: &str, date: &str, input: &str) -> String {
        format!(
            r#"{{"provider":"openai","id":"{id}","dialect":"openai-chat","prices":{{"input":"{input}","output":"9"}},"source":"here","date":"{date}"}}"#
        )
    }

    /// On the 22nd of November 2026.
    fn read(text: &str) -> Result<Update, String> {
        let clock = FixedClock::new();
        clock.set(domain::time::Timestamp::from_millis(1_795_305_600_000));
        Update::read(text.as_bytes(), &clock).map_err(|error| error.to_string())
    }

    #[test]
    fn what_ships_is_such_a_file() {
        let update = read(DATA).unwrap();
        let (plain, laid) = (Catalogue::with(None), Catalogue::with(Some(&update.0)));
        assert_eq!((laid.models.len(), laid.aliases), (plain.models.len(), plain.aliases));
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        let good = row("gpt-7", "2026-11-01", "1");
        let one = |row: &str| file("2026-11-20", &[row]);
        for (text, expect) in [
            (String::new(), "it is no catalogue of models: it is no JSON object"),
            ("{".to_owned(), "it is no catalogue of models: EOF"),
            (r#"["2026-11-20",{},[]]"#.to_owned(), "it is no catalogue of models: it is no JSON object"),
            (one(r#"["openai","gpt-7","openai-chat"]"#), "its row 1 is no JSON object"),
            (one(&good).replace("aliases", "names"), "unknown field `names`"),
            (file("2026-11-20", &[]), "it has 0 models"),
            (file("soon", &[&good]), "it has a `date` that is no day: `soon`"),
            (file("2026-12-01", &[&good]), "it has a `date` in the future"),
            (file("2026-11-20", &[&good, &good]), "its row 2 (openai/gpt-7) is there already, in row 1"),
            (
                file("2026-11-20", &[&good, &row("gpt-8", "2027-01-01", "1")]),
                "its row 2 (openai/gpt-8) has a `date` in the future: 2027-01-01",
            ),
            (one(&row("gpt-8", "2026-1-1", "1")), "its row 1 (openai/gpt-8) has a `date` that is no day"),
            (one(&row("gpt-8", "2026-11-01", "-1")), "its row 1 (openai/gpt-8) is not understood"),
            (one(&row("", "2026-11-01", "1")), "has an `id` that is not 1 to 200"),
            (one(&good.replace(r#","date":"2026-11-01""#, "")), "its row 1 (openai/gpt-7) has no `date`"),
            (one(&good.replace(r#""source":"here","#, "")), "is not understood: missing field `source`"),
            (one(&good.replace("source", "sauce")), "is not understood: unknown field `sauce`"),
            (one(&good.replace("openai-chat", "gemini")), "is asked in gemini, which its provider does not"),
            (one(&good.replace(r#""openai""#, r#""open/ai""#)), "letters, digits"),
            (one(&good).replace("{}", r#"{"a\u0000b":"gpt-7"}"#), "a name among its aliases is not 1 to"),
            (" ".repeat(CATALOGUE_MAX + 1), "larger than 8 MiB"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expect), "{expect}: {error}");
        }
    }

    #[test]
    fn the_newer_row_counts() {
        let own = Catalogue::with(None).find("gpt-5").unwrap().date.clone().unwrap();
        let check = |name: &str, (of, date): (&str, &str), expect: (&str, Origin)| {
            let text = file(of, &[&row("gpt-5", date, "3"), &row("gpt-7", date, "4")]);
            let catalogue = Catalogue::with(Some(&read(&text).unwrap().0));
            let facts = catalogue.find(name).unwrap();
            let price = facts.prices.as_ref().unwrap().input.to_string();
            assert_eq!((price.as_str(), facts.origin), expect, "{name} of {of}, changed {date}");
        };
        check("gpt-5", ("2026-11-20", "2026-11-01"), ("$3.00", Origin::Updated));
        check("gpt-5", ("2026-11-20", "2020-01-01"), ("$1.25", Origin::Shipped));
        check("gpt-7", ("2026-11-20", "2020-01-01"), ("$4.00", Origin::Updated));
        // Of two rows of one day that of the newer file.
        check("gpt-5", ("2026-11-20", &own), ("$3.00", Origin::Updated));
        check("gpt-5", ("2026-01-01", &own), ("$1.25", Origin::Shipped));
    }

    #[test]
    fn aliases_of_a_newer_file_count_but_never_for_this_machine() {
        let aliases = r#"{"gpt-4":"openai/gpt-7","seven":"openai/gpt-7","local":"openai/gpt-7"}"#;
        let find = |date: &str, name: &str| {
            let text = file(date, &[&row("gpt-7", "2026-01-01", "1")]).replace("{}", aliases);
            Catalogue::with(Some(&read(&text).unwrap().0)).find(name).unwrap().key()
        };
        assert_eq!(find("2026-11-20", "gpt-4"), "openai/gpt-7");
        assert_eq!(find("2026-01-01", "gpt-4"), "openai/gpt-4.1");
        assert_eq!(find("2026-01-01", "seven"), "openai/gpt-7");
        assert_eq!(find("2026-11-20", "local"), "local/smollm2");
    }

    #[tokio::test]
    async fn plain_http_leads_to_this_machine_only() {
        for address in
            ["http://example.com/c.json", "ftp://127.0.0.1/c", "file:///etc/passwd", "http://10.0.0.1/"]
        {
            let error = fetch(address).await.unwrap_err().to_string();
            assert!(error.contains("over https only"), "{address}: {error}");
        }
        assert!(fetch("no address").await.unwrap_err().to_string().contains("is no address"));
    }
}
