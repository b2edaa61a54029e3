//! The tools of servers as a model is offered them: names that every provider takes, and so much text and no
//! more. What does not fit is left out and told of; nothing is changed but the name.

use std::collections::BTreeMap;

use ports::models::Tool;
use serde_json::Value as Json;

/// The longest name that all providers take.
const LONGEST_NAME: usize = 64;
/// The most tools of all servers together; providers take 128.
const MOST: usize = 120;
/// The longest description, bytes; more is cut.
const LONGEST_DESCRIPTION: usize = 4 << 10;
/// The largest schema, bytes.
const LARGEST_SCHEMA: usize = 32 << 10;
/// All descriptions and schemas together, bytes: about fifty thousand tokens, in every question.
const LARGEST: usize = 200 << 10;
/// So many reasons are given, for one server.
const MOST_REASONS: usize = 5;

/// What is offered.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// By the name under which a model calls it.
    tools: BTreeMap<String, Bound>,
    bytes: usize,
}

#[derive(Debug)]
struct Bound {
    server: usize,
    /// As the server calls it.
    name: String,
    description: String,
    parameters: Json,
}

impl Offer {
    /// Adds those tools of a server that are allowed. Gives how many, and why others are left out.
    pub(super) fn add(
        &mut self,
        (server, name): (usize, &str),
        tools: &[Tool],
        allowed: impl Fn(&str) -> bool,
    ) -> (usize, Vec<String>) {
        let (mut count, mut left_out) = (0, Vec::new());
        for tool in tools.iter().filter(|tool| allowed(&tool.name)) {
            match self.one((server, name), tool) {
                Ok(()) => count += 1,
                Err(why) => {
                    let tool: String = tool.name.chars().filter(|c| !c.is_control()).take(80).collect();
                    left_out.push(format!("the tool `{tool}` of `{name}` is left out: {why}"));
                }
            }
        }
        if left_out.len() > MOST_REASONS {
            let more = left_out.len() - MOST_REASONS;
            left_out.truncate(MOST_REASONS);
            left_out.push(format!("{more} more tools of `{name}` are left out"));
        }
        (count, left_out)
    }

    fn one(&mut self, (server, prefix): (usize, &str), tool: &Tool) -> Result<(), &'static str> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' };
        let called = format!("{prefix}__{}", tool.name.chars().map(plain).collect::<String>());
        if tool.name.is_empty() || called.len() > LONGEST_NAME {
            return Err("its name is empty or too long");
        }
        if self.tools.contains_key(&called) {
            return Err("another one has the same name");
        }
        let size = tool.parameters.to_string().len();
        if tool.parameters["type"] != "object" {
            return Err("its arguments are not described as an object");
        }
        if size > LARGEST_SCHEMA {
            return Err("the description of its arguments is too long");
        }
        let description = cut(&tool.description);
        let bytes = self.bytes + size + description.len();
        if self.tools.len() == MOST || bytes > LARGEST {
            return Err("there are too many tools, or they say too much; name those that are needed");
        }
        self.bytes = bytes;
        let (name, parameters) = (tool.name.clone(), tool.parameters.clone());
        self.tools.insert(called, Bound { server, name, description, parameters });
        Ok(())
    }

    /// The tools as a model is told of them.
    pub(super) fn tools(&self) -> Vec<Tool> {
        let tools = self.tools.iter().map(|(name, bound)| Tool {
            name: name.clone(),
            description: bound.description.clone(),
            parameters: bound.parameters.clone(),
        });
        tools.collect()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.tools.keys().map(String::as_str).collect()
    }

    /// The server of a tool, and how that calls it.
    pub(super) fn find(&self, called: &str) -> Option<(usize, &str)> {
        self.tools.get(called).map(|bound| (bound.server, bound.name.as_str()))
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST_DESCRIPTION);
    if end == text.len() { text.to_owned() } else { format!("{}…", &text[..end]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tool(name: &str) -> Tool {
        let parameters = json!({ "type": "object" });
        Tool { name: name.to_owned(), description: "Looks.".to_owned(), parameters }
    }

    fn check(tools: &[Tool], expect: &[&str], reasons: &[&str]) {
        let mut offer = Offer::default();
        let (count, left_out) = offer.add((0, "files"), tools, |_| true);
        let names: Vec<String> = offer.tools().into_iter().map(|tool| tool.name).collect();
        assert_eq!((names, count), (expect.iter().map(ToString::to_string).collect(), expect.len()));
        assert_eq!(left_out, reasons);
    }

    #[test]
    fn names_are_such_that_every_model_takes_them() {
        check(&[tool("read"), tool("a.b/c d")], &["files__a_b_c_d", "files__read"], &[]);
        check(
            &[tool("a.b"), tool("a/b"), tool(""), tool(&"x".repeat(60)), tool("ü\u{7}")],
            &["files____", "files__a_b"],
            &[
                "the tool `a/b` of `files` is left out: another one has the same name",
                "the tool `` of `files` is left out: its name is empty or too long",
                &format!(
                    "the tool `{}` of `files` is left out: its name is empty or too long",
                    "x".repeat(60)
                ),
            ],
        );
    }

    #[test]
    fn what_is_said_of_tools_is_bounded() {
        let long = Tool { description: "ü".repeat(9_000), ..tool("long") };
        let huge = Tool { parameters: json!({ "type": "object", "x": "y".repeat(40_000) }), ..tool("huge") };
        let odd = Tool { parameters: json!({ "type": "string" }), ..tool("odd") };
        let mut offer = Offer::default();
        let (count, left_out) = offer.add((0, "files"), &[long, huge, odd], |_| true);
        assert_eq!((count, left_out.len()), (1, 2), "{left_out:?}");
        assert!(offer.tools()[0].description.len() <= LONGEST_DESCRIPTION + 3);

        let many: Vec<Tool> = (0..300).map(|n| tool(&format!("t{n}"))).collect();
        let (count, left_out) = offer.add((1, "many"), &many, |name| name != "t0");
        assert_eq!((count, left_out.len()), (MOST - 1, MOST_REASONS + 1), "{left_out:?}");
        assert_eq!(left_out.last().unwrap(), "175 more tools of `many` are left out");
        assert_eq!((offer.find("many__t1"), offer.find("many__t0")), (Some((1, "t1")), None));

        let wordy: Vec<Tool> =
            (0..80).map(|n| Tool { description: "x".repeat(4_000), ..tool(&format!("w{n}")) }).collect();
        assert_eq!(Offer::default().add((0, "wordy"), &wordy, |_| true).0, 50);
    }
}
