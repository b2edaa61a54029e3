//! The language, from the outside.

use std::cell::RefCell;

use domain::value::{Taint, Value};
use manifest::expression::{Expression, JsonTemplate, MAX_RESULT, RunSoFar, Scope, Template};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

struct World {
    json: Json,
    status: RunSoFar,
    asked: RefCell<Vec<String>>,
}

impl World {
    fn new(json: Json) -> Self {
        Self { json, status: RunSoFar::Success, asked: RefCell::default() }
    }
}

/// `event` is from outside, everything else can be trusted.
impl Scope for World {
    fn lookup(&self, name: &str) -> Option<Value> {
        self.asked.borrow_mut().push(name.to_owned());
        let json = self.json.get(name)?.clone();
        Some(if name == "event" { Value::external(json) } else { Value::trusted(json) })
    }

    fn status(&self) -> RunSoFar {
        self.status
    }

    fn names(&self) -> Vec<String> {
        self.json.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }
}

fn world() -> World {
    World::new(json!({
        "event": { "number": 7, "title": "Say \"hi\" ${now}", "labels": ["a", "b"], "pull_request": { "draft": false } },
        "findings": { "issues": [{ "path": "x.rs", "line": 3 }, { "path": "y.rs" }], "score": 0.5, "none": null },
        "word": "Straße", "big-name": 1, "empty": "", "zero": 0, "list": [3, 1, 2],
    }))
}

/// The value as JSON, or the error with its help.
fn value(source: &str) -> String {
    match Expression::parse(source) {
        Err(error) => format!("{} @{}", error.message, error.offset),
        Ok(expression) => match expression.evaluate(&world()) {
            Ok(value) => value.json.to_string(),
            Err(error) => {
                format!("{}{}", error.message, error.help.map_or(String::new(), |help| format!("; {help}")))
            }
        },
    }
}

fn check(cases: &[(&str, &str)]) {
    for (source, expect) in cases {
        assert_eq!(value(source), *expect, "for {source:?}");
    }
}

#[test]
fn paths_and_literals() {
    check(&[
        ("event.number", "7"),
        ("event['title']", r#""Say \"hi\" ${now}""#),
        ("findings.issues[1].path", r#""y.rs""#),
        ("findings.issues[1].line", "null"),
        ("findings.issues[9].path.deeper[0]", "null"),
        ("findings.score.deeper", "null"),
        ("findings.issues[list[1]].path", r#""y.rs""#),
        ("big-name", "1"),
        (" -1.5e2 ", "-150.0"),
        ("'it\\'s \\n'", r#""it's \n""#),
        ("null", "null"),
        ("fromJSON('{\"a\": [1, 2]}').a[1]", "2"),
        ("evnt.number", "there is no `evnt`; did you mean `event`?"),
        ("list[1.5]", "1.5 is not an index; count from 0"),
        ("list[true]", "a truth value cannot be an index"),
        ("18446744073709551615", "18446744073709551615"),
    ]);
}

#[test]
fn operators() {
    check(&[
        ("!empty && zero == 0", "true"),
        ("empty || word", r#""Straße""#),
        ("zero && nothing", "0"),
        ("word == 'straße'", "false"),
        ("1 == 1.0", "true"),
        ("1 == '1'", "false"),
        ("list == fromJSON('[3,1,2]')", "true"),
        ("findings.none == findings.missing", "true"),
        ("findings.missing < 1 || findings.missing >= 1", "false"),
        ("'a' < 'b'", "true"),
        ("'a' < 1", "a text and a number have no order; `<` and its kin compare two numbers or two texts"),
        ("9007199254740993 > 9007199254740992", "true"),
        ("true ? 1 : true ? 2 : 3", "1"),
        ("false ? 1 : false ? 2 : 3", "3"),
        ("!(1 == 2) && 1 != 2", "true"),
        ("1 < 2 < 3", "comparisons do not chain @6"),
        ("a = b", "`=` means nothing here @2"),
        ("1 + 2", "`+` means nothing here @2"),
    ]);
}

#[test]
fn functions() {
    check(&[
        ("contains(event.labels, 'a')", "true"),
        ("contains(word, 'ß')", "true"),
        ("contains(findings, 'score') && !contains(findings.missing, 1)", "true"),
        ("startsWith(word, 'Str') && endsWith(word, 'ße')", "true"),
        ("join(list, ' + ')", r#""3 + 1 + 2""#),
        ("join(findings.missing)", r#""""#),
        ("format('{0}: {1} {{0}}', word, list)", r#""Straße: [3,1,2] {0}""#),
        ("format('{1}', 1)", "`format` has no value for `{1}`"),
        ("format('{x}')", "`format` has a brace that is not `{0}`, `{1}`, …; write `{{` and `}}` for braces"),
        ("toJSON(list)", r#""[3,1,2]""#),
        ("fromJSON('nope')", "`fromJSON` was given what is not JSON: expected ident at line 1 column 2"),
        ("len(word) + 1", "`+` means nothing here @10"),
        ("len(word)", "6"),
        ("len(findings.missing)", "0"),
        ("len(1)", "a number has no length"),
        ("default(nothing, 1)", "1"),
        ("default(nothing.at.all, word)", r#""Straße""#),
        ("default(findings.none, 2)", "2"),
        ("default(empty, 2)", r#""""#),
        (
            "default('a' < 1, 2)",
            "a text and a number have no order; `<` and its kin compare two numbers or two texts",
        ),
        ("success() && always() && !failure() && !cancelled()", "true"),
        ("lenght(word)", "there is no function `lenght` @0"),
        ("len(1, 2)", "`len` takes one value, not 2 @0"),
        ("success(1)", "`success` takes nothing, not 1 @0"),
    ]);
}

#[test]
fn syntax_errors_have_places() {
    check(&[
        ("", "expected a value, found the end of the expression @0"),
        ("a.", "expected a name, found the end of the expression @2"),
        ("(a", "expected `)`, found the end of the expression @2"),
        ("a b", "expected an operator or the end, found `b` @2"),
        ("'abc", "the text is not closed @0"),
        ("a ? b", "expected `:`, found the end of the expression @5"),
        ("a[0", "expected `]`, found the end of the expression @3"),
        ("${a}", "`$` means nothing here @0"),
        ("a & b", "`&` means nothing here @2"),
        ("'\\x'", "an unknown escape @1"),
        ("é", "`é` means nothing here @0"),
        ("1e400", "`1e400` is not a number that fits @0"),
        ("-a", "`-` stands only before a number @0"),
    ]);
}

#[test]
fn conditions_stand_bare_or_in_braces() {
    for source in ["word == 'Straße'", "${word == 'Straße'}", "  ${ word == 'Straße' }\n"] {
        let condition = Expression::parse_condition(source).expect("a condition");
        assert_eq!(condition.source(), "word == 'Straße'");
        assert_eq!(condition.holds(&world()), Ok(true));
    }
    for source in ["${a} && ${b}", "${a", "${a} b", "${}"] {
        assert!(Expression::parse_condition(source).is_err(), "{source:?} was accepted");
    }
}

#[test]
fn templates() {
    let cases = [
        ("plain", json!("plain")),
        ("", json!("")),
        ("${event.number}", json!(7)),
        (" ${event.number}", json!(" 7")),
        ("#${event.number}: ${list} ${findings.none}.", json!("#7: [3,1,2] .")),
        ("$${event.number} $5 $", json!("${event.number} $5 $")),
        ("$$${x}", json!("$${x}")),
        ("${'}'}${\"}\"}", json!("}}")),
        // A value is never parsed again.
        ("${event.title}", json!("Say \"hi\" ${now}")),
        ("${word}${word}", json!("StraßeStraße")),
    ];
    for (source, expect) in cases {
        let template = Template::parse(source).expect(source);
        assert_eq!(template.source(), source);
        assert_eq!(template.evaluate(&world()).map(|value| value.json), Ok(expect), "for {source:?}");
    }
    assert_eq!(Template::parse("a $${b}").expect("a template").literal(), Some("a ${b}"));
    assert_eq!(Template::parse("a ${b}").expect("a template").literal(), None);
    for (source, offset) in [("${", 2), ("a ${b", 5), ("ab ${b c}", 7), ("${a}}${", 7)] {
        assert_eq!(Template::parse(source).map_err(|error| error.offset), Err(offset), "for {source:?}");
    }
}

#[test]
fn json_templates_keep_their_shape() {
    let source = json!({ "${word}": ["${list}", 1, null, { "a": "x ${event.number}" }] });
    let template = JsonTemplate::parse(source.clone()).expect("a template");
    let value = template.evaluate(&world()).expect("a value");
    assert_eq!(value.json, json!({ "${word}": [[3, 1, 2], 1, null, { "a": "x 7" }] }));
    assert_eq!(value.taint, Taint::External);
    assert_eq!((template.source(), template.literal()), (&source, None));
    assert!(JsonTemplate::parse(json!(["${"])).is_err());
}

#[test]
fn taint_is_that_of_everything_read() {
    for (source, expect) in [
        ("word", Taint::Trusted),
        ("event.number", Taint::External),
        ("event.missing", Taint::External),
        ("event.number == 7 ? 'a' : 'b'", Taint::External),
        ("default(nothing, word)", Taint::Trusted),
        ("default(event.missing, word)", Taint::External),
        ("word || event", Taint::Trusted),
        ("len(event)", Taint::External),
    ] {
        let value = Expression::parse(source).expect(source).evaluate(&world()).expect(source);
        assert_eq!(value.taint, expect, "for {source:?}");
    }
}

#[test]
fn references_are_found_with_their_paths() {
    let expression =
        Expression::parse("default(a.b['c d'][0].e, f) && len(g[h.i]) > 0").expect("an expression");
    let found: Vec<_> = expression
        .references()
        .into_iter()
        .map(|one| (one.root, one.path.join("/"), one.offset, one.guarded))
        .collect();
    assert_eq!(
        found,
        [
            ("a", "b/c d".to_owned(), 8, true),
            ("f", String::new(), 25, false),
            ("g", String::new(), 35, false),
            ("h", "i".to_owned(), 37, false),
        ]
    );
    assert!(!expression.asks_status());
    assert!(Expression::parse("a || !failure()").expect("an expression").asks_status());
}

#[test]
fn each_root_is_asked_once() {
    let world = world();
    Template::parse("${word} ${word} ${len(word)} ${list}")
        .expect("a template")
        .evaluate(&world)
        .expect("a text");
    assert_eq!(*world.asked.borrow(), ["word", "list"]);
}

#[test]
fn bounds_hold() {
    let deep = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    assert!(Expression::parse(&deep(31)).is_ok());
    for source in
        [deep(32), deep(2000), "!".repeat(4000), "a[".repeat(2000), "a?".repeat(2000), "len(".repeat(1000)]
    {
        assert!(Expression::parse(&source).is_err(), "{:?}… was accepted", &source[..20]);
    }
    for long in [format!("'{}'", "x".repeat(5000)), format!("1{}", " ".repeat(5000)), "a&&".repeat(2000)] {
        let message = Expression::parse(&long).map_err(|error| error.message);
        assert!(message.is_err(), "{message:?}");
    }
    let chain = vec!["1==1"; 680].join("&&");
    assert_eq!(value(&chain), "true");
    assert_eq!(value(&format!("list{}", ".a".repeat(2000))), "null");
}

#[test]
fn results_and_work_are_bounded() {
    let large = World::new(json!({ "x": "y".repeat(MAX_RESULT), "half": "z".repeat(MAX_RESULT / 2) }));
    let evaluate =
        |source: &str| Template::parse(source).expect(source).evaluate(&large).map_err(|error| error.message);
    assert!(evaluate("${x}").is_ok());
    for source in [
        "${x}!",
        "${half}${half}!",
        "${format('{0}{0}{0}', half)}",
        "${toJSON(toJSON(x))}",
        "${join(fromJSON('[1,2]'), x)}",
    ] {
        assert_eq!(evaluate(source), Err("the result is larger than 1 MiB".to_owned()), "for {source}");
    }
    let work = "${contains(x, 'q') ? 1 : 2}".repeat(100);
    assert_eq!(evaluate(&work), Err("the expression works on more than 16 MiB of data".to_owned()));
    let list: Vec<Json> = vec![json!("${x}"); 100];
    let lists = JsonTemplate::parse(Json::Array(list)).expect("a template").evaluate(&large);
    assert!(lists.is_err());
}

/// Sources that look like expressions, so that more than the first token is reached.
fn source() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "event", "list", "word", "nothing", ".", "[", "]", "(", ")", "&&", "||", "!", "==", "<", "?", ":",
        ",", "'a'", "\"", "0", "1.5", "-", "null", "true", "len", "default", "contains", "format", "toJSON",
        "fromJSON", "join", "success", " ", "}", "${", "$${", "é", "\\", "issues", "findings",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_panics(text in source(), noise in ".{0,60}") {
        for source in [&text, &noise] {
            let _ = Expression::parse(source).map(|expression| expression.evaluate(&world()));
            let _ = Expression::parse_condition(source);
            let _ = Template::parse(source).map(|template| template.evaluate(&world()));
        }
    }

    #[test]
    fn what_was_parsed_parses_again_to_the_same(text in source()) {
        if let Ok(expression) = Expression::parse(&text) {
            let again = Expression::parse(expression.source());
            prop_assert!(again.as_ref().is_ok_and(|again| again.evaluate(&world()) == expression.evaluate(&world())));
            let inside = Template::parse(&format!("${{{}}}", expression.source()));
            prop_assert!(inside.is_ok_and(|inside| inside.evaluate(&world()) == expression.evaluate(&world())));
        }
    }

    #[test]
    fn error_places_lie_in_the_text(text in source()) {
        if let Err(error) = Template::parse(&text) {
            prop_assert!(error.offset <= text.len() && text.is_char_boundary(error.offset));
        }
    }

    #[test]
    fn any_text_survives_as_a_literal_template(text in "[${}a$]{0,30}") {
        let template = Template::verbatim(&text);
        prop_assert_eq!(template.literal(), Some(text.as_str()));
        let value = template.evaluate(&world()).map(|value| value.json);
        prop_assert_eq!(value, Ok(Json::String(text)));
    }

    #[test]
    fn any_value_comes_through_unharmed(text in ".{0,200}") {
        let world = World::new(json!({ "event": text }));
        let alone = Template::parse("${event}").expect("a template").evaluate(&world);
        prop_assert_eq!(alone, Ok(Value::external(text.clone())));
        let inside = Template::parse("<${event}>").expect("a template").evaluate(&world);
        prop_assert_eq!(inside, Ok(Value::external(format!("<{text}>"))));
    }

    #[test]
    fn comparing_numbers_is_an_order(a in any::<i64>(), b in any::<i64>()) {
        let negative = |n: i64| if n == i64::MIN { i64::MIN + 1 } else { n };
        let (a, b) = (negative(a), negative(b));
        prop_assert_eq!(value(&format!("{a} < {b}")), (a < b).to_string());
        prop_assert_eq!(value(&format!("{a} == {b}")), (a == b).to_string());
    }
}
