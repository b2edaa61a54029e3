//! Commands: what people ask for in comments. A command is a whole line of plain text, addressed to the
//! server (`/spellbook run review depth=thorough`, or `@<bot> …`) or to a daemon (`/review`).
//!
//! A comment is read as CommonMark, as those who see it read it: what stands in code, in a quote, in a list, a
//! heading, a link or in HTML is talk about commands and never one (the model is rust-lang/bors). Whatever was
//! addressed to the server and is no command is a [`Mistake`], which says what was meant, as far as that can
//! be told.

mod markdown;
mod words;

use std::fmt;

use serde_json::{Map, Value as Json};

use crate::id::RunId;
use crate::name::DaemonId;
use crate::suggest::{code, did_you_mean, is_unseen, one_of};
use words::{Word, words};

/// The most commands in one comment.
pub const MOST: usize = 5;
/// The longest comment that is read, bytes. No forge takes a longer one: 65,536 characters of four bytes.
pub const LONGEST: usize = 256 << 10;

/// What the server is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `run ID [input=value …]`
    Run {
        /// Which daemon.
        daemon: DaemonId,
        /// What it is given, as text.
        given: Given,
    },
    /// `/review [input=value …]`: a daemon's own word.
    Own {
        /// The word, without the slash.
        word: String,
        /// What it is given, as text.
        given: Given,
    },
    /// `retry [RUN]`
    Retry {
        /// Which run; the newest of the thread that has ended.
        run: Option<RunId>,
    },
    /// `cancel [RUN|ID]`
    Cancel {
        /// What; everything of the thread.
        what: Option<RunOrDaemon>,
    },
    /// `approve SHA`
    Approve {
        /// The beginning of a commit's id, at least seven digits.
        commit: String,
    },
    /// `pause ID`
    Pause {
        /// Which daemon.
        daemon: DaemonId,
    },
    /// `resume ID`
    Resume {
        /// Which daemon.
        daemon: DaemonId,
    },
    /// `status`
    Status,
    /// `why [ID]`
    Why {
        /// Of which daemon; of all.
        daemon: Option<DaemonId>,
    },
    /// `estimate ID [input=value …]`
    Estimate {
        /// Which daemon.
        daemon: DaemonId,
        /// What it would be given, as text.
        given: Given,
    },
    /// `help`
    Help,
}

/// Inputs by name, as text.
pub type Given = Map<String, Json>;

/// A run, or all runs of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOrDaemon {
    /// This run.
    Run(RunId),
    /// Those of this daemon.
    Daemon(DaemonId),
}

/// What a command may be made of.
#[derive(Debug, Clone, Copy)]
pub struct Language<'a> {
    /// What the server answers to: `/spellbook`.
    pub prefix: &'a str,
    /// The server's account on the forge, without the `@`.
    pub bot: Option<&'a str>,
    /// The daemons that there are.
    pub daemons: &'a [DaemonId],
    /// Their own words, without the slash.
    pub words: &'a [String],
}

/// A line that is addressed to the server or a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// As it was written.
    pub text: String,
    /// What it asks for.
    pub command: Result<Command, Mistake>,
}

/// Why a line that is addressed to the server is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mistake {
    /// There is no such verb.
    Verb {
        /// What stands there.
        found: String,
        /// What was meant, perhaps.
        near: Option<String>,
    },
    /// Something is missing.
    Missing {
        /// How the command is written.
        usage: &'static str,
    },
    /// There is no such daemon.
    Daemon {
        /// What stands there.
        found: String,
        /// What was meant, perhaps; otherwise what there is.
        help: String,
    },
    /// It is not the id of a run.
    Run {
        /// What stands there.
        found: String,
    },
    /// It is not the beginning of a commit's id.
    Commit {
        /// What stands there.
        found: String,
    },
    /// Where `input=value` is expected, something else stands.
    Input {
        /// What stands there.
        found: String,
    },
    /// An input is given twice.
    Twice {
        /// Which.
        name: String,
    },
    /// Something stands behind the end of the command.
    Surplus {
        /// What stands there.
        found: String,
        /// How the command is written.
        usage: &'static str,
    },
    /// A value begins with a quotation mark and does not end with one.
    Quote,
    /// It holds characters that cannot be seen.
    Unseen,
    /// It is not plain text to its end.
    Formatted,
    /// There are more commands in the comment than the server takes.
    TooMany,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verb { found, near: None } => write!(f, "There is no command {}.", code(found)),
            Self::Verb { found, near: Some(near) } => {
                write!(f, "There is no command {}; did you mean `{near}`?", code(found))
            }
            Self::Missing { usage } => write!(f, "Something is missing: it is written `{usage}`."),
            Self::Daemon { found, help } => write!(f, "There is no daemon {}; {help}", code(found)),
            Self::Run { found } => {
                write!(f, "{} is not the id of a run; they begin with `run_`.", code(found))
            }
            Self::Commit { found } => {
                write!(f, "{} is not a commit: give at least the first seven digits of its id.", code(found))
            }
            Self::Input { found } => {
                write!(f, "{} is not of the form `input=value`; quote a value that has spaces.", code(found))
            }
            Self::Twice { name } => write!(f, "The input {} is given twice.", code(name)),
            Self::Surplus { found, usage } => {
                write!(f, "{} is too much: it is written `{usage}`.", code(found))
            }
            Self::Quote => f.write_str("A quotation mark is opened and not closed."),
            Self::Unseen => f.write_str("It holds characters that cannot be seen; type it anew."),
            Self::Formatted => {
                f.write_str("It is not plain text to its end; write it without code, emphasis and links.")
            }
            Self::TooMany => write!(f, "Only the first {MOST} commands of a comment are taken."),
        }
    }
}

/// The verbs, and how each command is written.
pub const VERBS: [(&str, &str); 10] = [
    ("run", "run ID [input=value …]"),
    ("retry", "retry [RUN]"),
    ("cancel", "cancel [RUN or ID]"),
    ("approve", "approve SHA"),
    ("pause", "pause ID"),
    ("resume", "resume ID"),
    ("status", "status"),
    ("why", "why [ID]"),
    ("estimate", "estimate ID [input=value …]"),
    ("help", "help"),
];

/// The lines of a comment that are addressed to the server or to a daemon, in their order; at most [`MOST`], and
/// then [`Mistake::TooMany`].
pub fn read(comment: &str, language: &Language<'_>) -> Vec<Line> {
    if comment.len() > LONGEST {
        return Vec::new();
    }
    let mut read = Vec::new();
    for line in markdown::lines(comment) {
        let Some((addressee, rest)) = addressee(line.text, language) else { continue };
        if read.len() == MOST {
            read.push(Line { text: String::new(), command: Err(Mistake::TooMany) });
            break;
        }
        let command = match line.is_plain {
            false => Err(Mistake::Formatted),
            true if line.text.chars().any(|c| c != '\t' && is_unseen(c)) => Err(Mistake::Unseen),
            true => words(rest).and_then(|words| command(addressee, &words, language)),
        };
        read.push(Line { text: line.text.to_owned(), command });
    }
    read
}

/// Whom a line is addressed to.
#[derive(Debug, Clone, Copy)]
enum Addressee<'l> {
    Server,
    /// A daemon's own word.
    Word(&'l str),
}

/// Whom a line is addressed to, and the rest of it.
fn addressee<'l, 't>(text: &'t str, language: &Language<'l>) -> Option<(Addressee<'l>, &'t str)> {
    let (first, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let mention = first.trim_end_matches([':', ',']).strip_prefix('@');
    let is_bot = mention.zip(language.bot).is_some_and(|(found, bot)| found.eq_ignore_ascii_case(bot));
    if is_bot || first.eq_ignore_ascii_case(language.prefix) {
        return Some((Addressee::Server, rest));
    }
    let found = first.strip_prefix('/')?;
    let word = language.words.iter().find(|word| word.eq_ignore_ascii_case(found))?;
    Some((Addressee::Word(word), rest))
}

fn command(addressee: Addressee<'_>, words: &[Word], language: &Language<'_>) -> Result<Command, Mistake> {
    let (verb, rest) = match (addressee, words) {
        (Addressee::Word(word), _) => {
            return Ok(Command::Own { word: word.to_owned(), given: given(words)? });
        }
        // Who only calls wants to know what there is.
        (Addressee::Server, []) => return Ok(Command::Help),
        (Addressee::Server, [verb, rest @ ..]) => (verb.text.as_str(), rest),
    };
    let known = VERBS.iter().find(|(known, _)| known.eq_ignore_ascii_case(verb));
    let Some((verb, usage)) = known else { return Err(unknown(verb, language)) };
    let arguments = Arguments { words: rest, usage, language };
    match *verb {
        "run" => arguments.daemon_and_inputs().map(|(daemon, given)| Command::Run { daemon, given }),
        "estimate" => {
            arguments.daemon_and_inputs().map(|(daemon, given)| Command::Estimate { daemon, given })
        }
        "retry" => Ok(Command::Retry { run: arguments.optional(|_, word| run(word))? }),
        "cancel" => Ok(Command::Cancel { what: arguments.optional(run_or_daemon)? }),
        "approve" => Ok(Command::Approve { commit: arguments.one(|_, word| commit(word))? }),
        "pause" => Ok(Command::Pause { daemon: arguments.one(daemon)? }),
        "resume" => Ok(Command::Resume { daemon: arguments.one(daemon)? }),
        "why" => Ok(Command::Why { daemon: arguments.optional(daemon)? }),
        "status" => arguments.none().map(|()| Command::Status),
        _ => arguments.none().map(|()| Command::Help),
    }
}

fn unknown(found: &str, language: &Language<'_>) -> Mistake {
    let near = if language.daemons.iter().any(|daemon| daemon.as_str() == found) {
        Some(format!("run {found}"))
    } else {
        crate::suggest::closest(found, VERBS.iter().map(|(verb, _)| *verb)).map(str::to_owned)
    };
    Mistake::Verb { found: found.to_owned(), near }
}

/// What stands behind a verb.
struct Arguments<'a> {
    words: &'a [Word],
    usage: &'static str,
    language: &'a Language<'a>,
}

impl Arguments<'_> {
    fn none(&self) -> Result<(), Mistake> {
        self.surplus(self.words)
    }

    fn one<T>(&self, parse: impl Fn(&Language<'_>, &str) -> Result<T, Mistake>) -> Result<T, Mistake> {
        let [first, rest @ ..] = self.words else { return Err(Mistake::Missing { usage: self.usage }) };
        self.surplus(rest)?;
        parse(self.language, &first.text)
    }

    fn optional<T>(
        &self,
        parse: impl Fn(&Language<'_>, &str) -> Result<T, Mistake>,
    ) -> Result<Option<T>, Mistake> {
        if self.words.is_empty() { Ok(None) } else { self.one(parse).map(Some) }
    }

    fn daemon_and_inputs(&self) -> Result<(DaemonId, Given), Mistake> {
        let [first, rest @ ..] = self.words else { return Err(Mistake::Missing { usage: self.usage }) };
        Ok((daemon(self.language, &first.text)?, given(rest)?))
    }

    fn surplus(&self, words: &[Word]) -> Result<(), Mistake> {
        match words.first() {
            None => Ok(()),
            Some(word) => Err(Mistake::Surplus { found: word.text.clone(), usage: self.usage }),
        }
    }
}

fn daemon(language: &Language<'_>, found: &str) -> Result<DaemonId, Mistake> {
    let known = || language.daemons.iter().map(DaemonId::as_str);
    if let Some(daemon) = language.daemons.iter().find(|daemon| daemon.as_str() == found) {
        return Ok(daemon.clone());
    }
    let help = did_you_mean(found, known()).unwrap_or_else(|| match language.daemons.len() {
        0 => "this repository has none.".to_owned(),
        1..=10 => format!("there is {}.", one_of(known())),
        many => format!("there are {many}."),
    });
    Err(Mistake::Daemon { found: found.to_owned(), help })
}

fn run(found: &str) -> Result<RunId, Mistake> {
    found.parse().map_err(|_| Mistake::Run { found: found.to_owned() })
}

fn run_or_daemon(language: &Language<'_>, found: &str) -> Result<RunOrDaemon, Mistake> {
    if found.starts_with(RunId::PREFIX) {
        return run(found).map(RunOrDaemon::Run);
    }
    daemon(language, found).map(RunOrDaemon::Daemon)
}

fn commit(found: &str) -> Result<String, Mistake> {
    let fits = (7..=40).contains(&found.len()) && found.bytes().all(|b| b.is_ascii_hexdigit());
    if fits { Ok(found.to_ascii_lowercase()) } else { Err(Mistake::Commit { found: found.to_owned() }) }
}

fn given(words: &[Word]) -> Result<Given, Mistake> {
    let mut given = Given::new();
    for word in words {
        let Some((name, value)) = word.split().filter(|(name, _)| is_name(name)) else {
            return Err(Mistake::Input { found: word.text.clone() });
        };
        if given.insert(name.to_owned(), Json::from(value)).is_some() {
            return Err(Mistake::Twice { name: name.to_owned() });
        }
    }
    Ok(given)
}

/// Whether it may be the name of an input: what is not is said back as it was written.
fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests;
