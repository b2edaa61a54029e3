//! `spellbook.yaml`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value as Json, json};

use crate::codes;
use crate::diagnostic::Problem;
use crate::raw::daemon::Price;
use crate::raw::scalar::{Line, OneOrMany};
use crate::read::{Place, Read, Reader, Slot, object};
use crate::suggest::quoted;
use crate::units;
use crate::yaml::{Node, Shape};

object! {
    /// What holds for a repository with daemons as a whole.
    struct File {
        /// Who publishes it.
        #[schemars(example = json!({ "name": "Ada's workshop", "url": "https://example.org" }))]
        publisher: Publisher,
        /// The licence of daemons that name none: an SPDX expression, or `proprietary`.
        #[schemars(example = json!("MIT"))]
        license: Line,
        /// The price of daemons that name none.
        #[schemars(example = json!("free"))]
        price: Price,
        /// Whether the market lists its daemons. Without it: yes.
        #[schemars(example = true)]
        publish: bool,
        /// Daemons that are sold together.
        #[schemars(example = json!([{ "name": "Everything", "daemons": ["review", "triage"], "price": "$9.99" }]))]
        bundles: Vec<Slot<Bundle>>,
        /// Globs of further directories that hold a daemon each, besides `daemons/*` and `.spellbook/daemons/*`.
        #[schemars(example = json!(["tools/*/daemon"]))]
        daemons: OneOrMany<Line>,
        /// What each branch is to the server.
        #[schemars(example = json!({ "deploy": ["main"], "forks": ["*"] }))]
        branches: Branches,
        /// Whether others may fork its daemons, and what they owe.
        #[schemars(example = json!({ "allowed": true, "revenue_share": "20%" }))]
        forks: Forks,
        /// Whether one issue of the repository says how its daemons fare, kept up to date. Without it: no.
        #[schemars(example = true)]
        dashboard: bool,
        /// Where the repository has moved to: `owner/name`.
        #[schemars(example = json!("ada/new-book"))]
        redirect: Line,
        /// Which versions of the server it needs.
        #[schemars(example = json!(">=1.2"))]
        requires: Line,
    }
}

object! {
    /// Who publishes a spellbook.
    struct Publisher requires [name] {
        /// The name that the market shows.
        #[schemars(example = json!("Ada's workshop"))]
        name: Line,
        /// Where to read more: an https address.
        #[schemars(example = json!("https://example.org"))]
        url: Line,
        /// Where to ask for help: an https address or an e-mail address.
        #[schemars(example = json!("help@example.org"))]
        support: Line,
    }
}

object! {
    /// Daemons that are sold together.
    struct Bundle requires [name, daemons, price] {
        /// The title.
        #[schemars(example = json!("Everything"))]
        name: Line,
        /// Which, by id.
        #[schemars(example = json!(["review", "triage"]))]
        daemons: Vec<Slot<Line>>,
        /// What they cost together.
        #[schemars(example = json!("$9.99"))]
        price: Price,
    }
}

object! {
    /// What each branch is to the server: lists of globs. `ignore` goes first, then `deploy`, then `forks`.
    struct Branches {
        /// Branches whose daemons answer to triggers. Without it: the default branch.
        #[schemars(example = json!(["main"]))]
        deploy: OneOrMany<Line>,
        /// Branches that are forks: their triggers are off and what they want is only shown. Without it: all others.
        #[schemars(example = json!(["*"]))]
        forks: OneOrMany<Line>,
        /// Branches that are not looked at.
        #[schemars(example = json!(["dependabot/**"]))]
        ignore: OneOrMany<Line>,
    }
}

object! {
    /// What others may do with the daemons.
    struct Forks {
        /// Whether others may fork. Without it: as the licence says.
        #[schemars(example = true)]
        allowed: bool,
        /// The share of a paid fork's revenue that goes to this repository: `20%`, or a number from 0 to 1.
        #[schemars(example = json!("20%"))]
        revenue_share: Share,
    }
}

/// A share, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(pub(crate) u16);

impl Read for Share {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let (written, share) = match &node.shape {
            Shape::Scalar(Json::String(text)) if text.ends_with('%') => {
                (text.clone(), units::thousandths(text.trim_end_matches('%')).map(|percent| percent / 10))
            }
            Shape::Scalar(Json::Number(number)) => (
                number.to_string(),
                units::thousandths(&number.to_string()).map(|part| part.saturating_mul(10)),
            ),
            _ => {
                reader.wrong_kind(node, place, "a share, like `20%` or `0.2`");
                return None;
            }
        };
        let share = share.filter(|share| *share <= 10_000).and_then(|share| u16::try_from(share).ok());
        if share.is_none() {
            let problem = Problem::error(&codes::BAD_SHARE, format!("{} is not a share", quoted(&written)));
            reader.report(problem.expected("`0%` to `100%`, or a number from 0 to 1"), place);
        }
        share.map(Self)
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "pattern": "^[0-9]{1,3}(\\.[0-9]{1,3})?%$" },
            { "type": "number", "minimum": 0, "maximum": 1 },
        ] })
    }
}
