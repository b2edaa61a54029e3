//! Calls of other daemons: `uses`, and what is handed over.

use std::collections::BTreeMap;

use domain::name::{Address, At, DaemonId, NameError};

use super::names::Visible;
use super::{Check, Siblings};
use crate::codes;
use crate::diagnostic::Problem;
use crate::model::{Callee, DaemonStage, Input};
use crate::raw::scalar::{Line, Named, TemplatedJson};
use crate::raw::stage::Stage;
use crate::read::{Place, Slot};
use crate::suggest::{did_you_mean, one_of, quoted};

impl Check<'_> {
    pub(super) fn call(&mut self, raw: &Stage, visible: &Visible<'_>) -> Option<DaemonStage> {
        let mut inputs = BTreeMap::new();
        for (name, _, value) in raw.inputs.get().map_or(&[][..], |named| &named.0) {
            self.json_names(value, visible);
            inputs.extend(value.get().map(|value| (name.clone(), value.template.clone())));
        }
        let (Line(written), place) = raw.uses.found()?;
        let uses = match callee(written) {
            Ok(uses) => uses,
            Err(error) => {
                let problem = Problem::error(
                    &codes::BAD_USES,
                    format!("{} is not a daemon's address", quoted(written)),
                );
                let problem = problem.expected("`./id`, or `owner/repository/id@ref`");
                self.reader.report(
                    problem.help(format!("{} is not {}: {}", quoted(&error.text), error.kind, error.rule)),
                    place,
                );
                return None;
            }
        };
        match (&uses, self.rules.siblings) {
            (Callee::Address(address), _) => self.pinned(address, place),
            (Callee::Sibling(id), Some(siblings)) => self.sibling(id, siblings, place, &raw.inputs),
            (Callee::Sibling(_), None) => {}
        }
        Some(DaemonStage { uses, inputs })
    }

    fn pinned(&mut self, address: &Address, place: Place) {
        let problem = match &address.at {
            At::Commit(_) => return,
            At::Deployed => Problem::error(&codes::UNPINNED, "no version is named"),
            At::Named(name) => Problem::warning(
                &codes::UNPINNED,
                format!("{} can move to another commit", quoted(name.as_str())),
            ),
        };
        self.reader.report(problem.help("write `@` and all 40 digits of a commit id"), place);
    }

    /// A daemon beside this one. That it is missing is a warning: it may come with the next commit, and what
    /// this daemon is does not depend on what lies beside it.
    fn sibling(
        &mut self,
        id: &DaemonId,
        siblings: &Siblings,
        place: Place,
        given: &Slot<Named<TemplatedJson>>,
    ) {
        match siblings.called.get(id) {
            Some(Some(asked)) => self.handed_over(id, asked, place, given),
            Some(None) => {}
            None => {
                let message = format!("there is no daemon `{id}` in this repository");
                let known = siblings.ids.iter().map(DaemonId::as_str);
                let help = did_you_mean(id.as_str(), known).map(|help| help.replacen('`', "`./", 1));
                let help = help
                    .unwrap_or_else(|| format!("the stage fails until there is `daemons/{id}/daemon.yaml`"));
                self.reader.report(Problem::warning(&codes::UNKNOWN_SIBLING, message).help(help), place);
            }
        }
    }

    /// The inputs of a call are those that the called daemon asks for.
    fn handed_over(
        &mut self,
        id: &DaemonId,
        asked: &[Input],
        place: Place,
        given: &Slot<Named<TemplatedJson>>,
    ) {
        let given = given.get().map_or(&[][..], |named| &named.0);
        let asks = |name: &str| asked.iter().any(|input| input.name == name);
        for (name, key, _) in given.iter().filter(|(name, ..)| !asks(name)) {
            let message = format!("the daemon `{id}` has no input {}", quoted(name));
            let free = asked.iter().map(|input| input.name.as_str());
            let free = || free.clone().filter(|input| given.iter().all(|(name, ..)| name != input));
            let help = did_you_mean(name, free()).unwrap_or_else(|| match asked {
                [] => "it has no inputs".to_owned(),
                _ => format!(
                    "it has {}",
                    one_of(asked.iter().map(|input| input.name.as_str())).replace(" or ", " and ")
                ),
            });
            self.reader.report(Problem::warning(&codes::CALL_INPUTS, message).help(help), *key);
        }
        let missing = |input: &&Input| input.required && given.iter().all(|(name, ..)| *name != input.name);
        for input in asked.iter().filter(missing) {
            let message = format!("the daemon `{id}` is not given its input `{}`", input.name);
            let help = format!("add `inputs: {{ {}: … }}`", input.name);
            self.reader.report(Problem::warning(&codes::CALL_INPUTS, message).help(help), place);
        }
    }
}

fn callee(text: &str) -> Result<Callee, NameError> {
    match text.strip_prefix("./") {
        Some(id) => DaemonId::parse(id).map(Callee::Sibling),
        None => text.parse().map(Callee::Address),
    }
}
