//! Markdown that somebody else had a hand in, made harmless before the server says it in its own name: it
//! calls nobody, loads nothing, leads nowhere unexpected and closes nothing.
//!
//! What is taken away stays readable, as code. Mentions, links and references are looked for where forges
//! look for them, in text, not in code (GitHub Flavored Markdown; CommonMark 0.31).

use std::ops::Range;
use std::sync::LazyLock;

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};
use regex::Regex;

/// What a text may do after all.
#[derive(Debug, Clone, Default)]
pub struct Leave {
    /// Links may lead to these hosts.
    pub hosts: Vec<String>,
    /// `Fixes #7` may name this issue or pull request: the one that the run is about.
    pub thread: Option<u64>,
}

/// HTML that shows and does nothing else; without attributes.
const PLAIN_TAGS: [&str; 16] = [
    "details", "summary", "br", "sub", "sup", "kbd", "b", "i", "em", "strong", "code", "pre", "p", "ul",
    "li", "hr",
];

#[expect(clippy::unwrap_used, reason = "the expressions are written here")]
fn regex(source: &str) -> Regex {
    Regex::new(source).unwrap()
}

static MENTION: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"@[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:/[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?)?")
});
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)(?:\b(?:https?|ftp)://|\bwww\.|\bmailto:|\bxmpp:)[^\s<>`]+"));
static CLOSING: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b:?\s+((?:[\w.-]+/[\w.-]+)?(?:#|GH-)(\d+))")
});
static TAG: LazyLock<Regex> = LazyLock::new(|| regex(r"(?is)^<(/?)([a-z][a-z0-9]*)\s*(/?)>$"));

/// So often a text is looked at: what is taken away may change how the rest is read.
const MOST_LOOKS: usize = 8;

/// The text, harmless. Once is enough: again changes nothing.
pub fn neutral(markdown: &str, leave: &Leave) -> String {
    // What is not seen is not judged by those who read.
    let mut text: String = markdown.chars().filter(|c| !is_unseen(*c)).collect();
    for _ in 0..MOST_LOOKS {
        let scan = Scan { source: &text, leave, edits: Vec::new(), text: None, code: 0 };
        let edits = scan.edits();
        if edits.is_empty() {
            return text;
        }
        text = apply(&text, edits);
    }
    as_code(&text)
}

/// The last resort: a text that cannot be told apart is shown and not read.
fn as_code(text: &str) -> String {
    let longest = text.split(|c| c != '~').map(str::len).max().unwrap_or(0);
    let fence = "~".repeat(longest.max(2) + 1);
    format!("{fence}\n{}\n{fence}", text.trim_end())
}

/// Controls that turn text around or hide it.
const fn is_unseen(c: char) -> bool {
    matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}'
        | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// A piece of the source, and what takes its place.
type Edit = (Range<usize>, String);

struct Scan<'a> {
    source: &'a str,
    leave: &'a Leave,
    edits: Vec<Edit>,
    /// Text that goes on, so far.
    text: Option<Range<usize>>,
    /// How many code blocks it is in.
    code: usize,
}

impl Scan<'_> {
    fn edits(mut self) -> Vec<Edit> {
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
        // The place of an image that is being read: what is in it goes with it.
        let mut image: Option<Range<usize>> = None;
        for (event, range) in Parser::new_ext(self.source, options).into_offset_iter() {
            if image.as_ref().is_some_and(|image| range.start >= image.start && range.end <= image.end) {
                if matches!(event, Event::End(TagEnd::Image)) {
                    image = None;
                }
                continue;
            }
            if let Event::Text(text) = &event {
                if self.code == 0 {
                    self.text(text, range);
                }
                continue;
            }
            self.end_of_text();
            match event {
                Event::Start(Tag::CodeBlock(_)) => self.code += 1,
                Event::End(TagEnd::CodeBlock) => self.code -= 1,
                Event::Start(Tag::Image { dest_url, .. }) => {
                    self.put(range.clone(), format!("picture {}", code(&dest_url)));
                    image = Some(range);
                }
                Event::Start(Tag::Link { link_type, dest_url, .. }) => self.link(link_type, &dest_url, range),
                Event::Html(html) | Event::InlineHtml(html) => self.html(&html, range),
                _ => {}
            }
        }
        self.end_of_text();
        self.edits
    }

    fn text(&mut self, text: &str, range: Range<usize>) {
        if self.source.get(range.clone()) != Some(text) {
            // An entity: `&#64;ada` would be read as `@ada`.
            self.end_of_text();
            if text.chars().any(|c| c.is_ascii_alphanumeric() || "@:/.#-".contains(c)) {
                self.put(range.start..range.start + 1, "&amp;".to_owned());
            }
            return;
        }
        match &mut self.text {
            Some(so_far) if so_far.end == range.start => so_far.end = range.end,
            _ => {
                self.end_of_text();
                self.text = Some(range);
            }
        }
    }

    /// Looks at a text that is whole.
    fn end_of_text(&mut self) {
        let Some(range) = self.text.take() else { return };
        let source = self.source;
        let Some(text) = source.get(range.clone()) else { return };
        let at = |found: Range<usize>| range.start + found.start..range.start + found.end;
        let mut found: Vec<Range<usize>> = Vec::new();
        for address in ADDRESS.find_iter(text) {
            let address_text =
                address.as_str().trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '*', '_', '~']);
            if !self.is_known(address_text) {
                found.push(at(address.start()..address.start() + address_text.len()));
            }
        }
        for mention in MENTION.find_iter(text) {
            // What stands before the text is markup, which nobody sees: `_a_@ada` calls her.
            let before = text[..mention.start()].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                found.push(at(mention.range()));
            }
        }
        for closing in CLOSING.captures_iter(text) {
            let (Some(reference), Some(number)) = (closing.get(1), closing.get(2)) else { continue };
            let is_ours = reference.as_str().starts_with('#')
                && number.as_str().parse().ok() == self.leave.thread
                && self.leave.thread.is_some();
            if !is_ours {
                found.push(at(reference.range()));
            }
        }
        for range in found {
            let shown = code(&source[range.clone()]);
            self.put(range, shown);
        }
    }

    /// A link stays where it leads to a known host; else its text stays, and its address beside it.
    fn link(&mut self, kind: LinkType, address: &str, range: Range<usize>) {
        if self.is_known(address) || address.starts_with('#') {
            return;
        }
        let source = &self.source[range.clone()];
        let is_bare = matches!(kind, LinkType::Autolink | LinkType::Email);
        let closes = source.rfind("](").or_else(|| source.rfind("][")).or_else(|| source.rfind(']'));
        match closes {
            Some(at) if !is_bare && source.starts_with('[') => {
                self.put(range.start..range.start + 1, String::new());
                self.put(range.start + at..range.end, format!(" ({})", code(address)));
            }
            _ => self.put(range, code(address)),
        }
    }

    fn html(&mut self, html: &str, range: Range<usize>) {
        let is_plain = |tag: &str| {
            TAG.captures(tag.trim())
                .is_some_and(|found| PLAIN_TAGS.contains(&found[2].to_ascii_lowercase().as_str()))
        };
        for (at, _) in html.match_indices('<') {
            let end = html[at..].find('>').map_or(html.len(), |length| at + length + 1);
            if !is_plain(&html[at..end]) {
                self.put(range.start + at..range.start + at + 1, "&lt;".to_owned());
            }
        }
    }

    fn is_known(&self, address: &str) -> bool {
        let Some(rest) = address.strip_prefix("https://") else { return false };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // A name before the host would show one and lead to another.
        self.leave.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    fn put(&mut self, mut range: Range<usize>, text: String) {
        // A backslash before it would take the first sign of what comes.
        let slashes = self.source[..range.start].bytes().rev().take_while(|byte| *byte == b'\\').count();
        if slashes % 2 == 1 {
            range.start -= 1;
        }
        self.edits.push((range, text));
    }
}

/// A text as code, in which nothing is read; on one line.
fn code(text: &str) -> String {
    let text = text.replace('`', "'").replace(['\n', '\r'], " ");
    format!("`{text}`")
}

/// Makes the changes; of two in one place the earlier and longer holds.
fn apply(source: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    let mut text = String::with_capacity(source.len() + edits.len() * 4);
    let mut at = 0;
    for (range, replacement) in edits {
        if range.start < at {
            continue;
        }
        text.push_str(&source[at..range.start]);
        text.push_str(&replacement);
        at = range.end;
    }
    text.push_str(&source[at..]);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leave() -> Leave {
        Leave { hosts: vec!["github.com".to_owned()], thread: Some(7) }
    }

    fn check(markdown: &str, expect: &str) {
        let got = neutral(markdown, &leave());
        assert_eq!(got, expect, "{markdown:?}");
        assert_eq!(neutral(&got, &leave()), got, "again changes nothing: {markdown:?}");
    }

    #[test]
    fn nobody_is_called() {
        check("Thanks @ada, and @acme/team.", "Thanks `@ada`, and `@acme/team`.");
        check("mail ada@example.org", "mail ada@example.org");
        check("`@ada` stays\n\n    @code", "`@ada` stays\n\n    @code");
        check("**@ada**", "**`@ada`**");
        check("_&_@1", "_&_`@1`");
        check("snake_@ada", "snake_@ada");
        check(r"\@ada", "`@ada`");
        check("&#64;ada", "&amp;#64;ada");
        check("@\u{200b}ada \u{202e}x", "`@ada` x");
    }

    #[test]
    fn nothing_is_loaded() {
        check("![x](https://evil.example/?q=1)", "picture `https://evil.example/?q=1`");
        check("![x](https://github.com/a.png)", "picture `https://github.com/a.png`");
        check("a <img src=x> b", "a &lt;img src=x> b");
        check("<!-- hidden @ada -->", "&lt;!-- hidden `@ada` -->");
        check(
            "<details><summary>More</summary>\n\ntext\n\n</details>",
            "<details><summary>More</summary>\n\ntext\n\n</details>",
        );
        check("<details open onclick=x>", "&lt;details open onclick=x>");
        check("<script>\n@ada\n</script>", "&lt;script>\n`@ada`\n&lt;/script>");
    }

    #[test]
    fn links_lead_to_known_hosts() {
        check("[docs](https://github.com/acme)", "[docs](https://github.com/acme)");
        check("[docs](https://evil.example/a)", "docs (`https://evil.example/a`)");
        check("[docs](https://github.com@evil.example/)", "docs (`https://github.com@evil.example/`)");
        check("[x](javascript:alert(1))", "x (`javascript:alert(1)`)");
        check("see https://evil.example/a.", "see `https://evil.example/a`.");
        check("see https://github.com/acme.", "see https://github.com/acme.");
        check("<https://evil.example>", "`https://evil.example`");
        check("www.evil.example", "`www.evil.example`");
        check(
            "[a][b]\n\n[b]: https://evil.example",
            "a (`https://evil.example`)\n\n[b]: https://evil.example",
        );
    }

    #[test]
    fn nothing_is_closed_but_its_own() {
        check("Fixes #7.", "Fixes #7.");
        check("Fixes #8.", "Fixes `#8`.");
        check("closes: acme/app#7", "closes: `acme/app#7`");
        check("see #8", "see #8");
    }

    proptest! {
        #[test]
        fn any_text_is_harmless(text in r"[ @a\[\]()!<>`\\*_#&;:/.\n1h-]{0,60}|(@ada|https://evil\.example/|!\[|\]\(|`|\\|<img |&#64;|\n| |\*){0,14}") {
            let got = neutral(&text, &leave());
            prop_assert_eq!(&neutral(&got, &leave()), &got, "again changes nothing");
            let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
            for event in Parser::new_ext(&got, options) {
                let is_picture = matches!(event, Event::Start(Tag::Image { .. }));
                prop_assert!(!is_picture, "{text:?} became {got:?}, which has a picture");
            }
            let mut said = String::new();
            let mut quiet = 0;
            for event in Parser::new_ext(&got, options) {
                match event {
                    Event::Start(Tag::CodeBlock(_)) => quiet += 1,
                    Event::End(TagEnd::CodeBlock) => quiet -= 1,
                    Event::Text(text) if quiet == 0 => said.push_str(&text),
                    _ => said.push(' '),
                }
            }
            prop_assert!(!said.contains("https://evil"), "{text:?} became {got:?}");
            let called = MENTION.find_iter(&said).any(|found| {
                !said[..found.start()].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            });
            prop_assert!(!called, "{text:?} became {got:?}");
        }
    }
}
