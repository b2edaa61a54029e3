//! Variables and sessions: what a daemon keeps from run to run, on each branch for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use domain::memo::{Expected, MemoAuthor, MemoKey, MemoKind, MemoOwner, MemoWrite};
use domain::money::NanoUsd;
use domain::value::{Taint, Value};
use ports::Retry;
use ports::clock::Clock;
use ports::models::{Answer, Drawing, Drawn, Message, ModelError, Models, Question};
use ports::store::memos::Kept;
use ports::store::{Memos, Runs};
use serde_json::{Value as Json, json};
use testkit::{ScriptedModels, build};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::house::House;

/// Another run than those of a story.
const SOMEBODY: &str = "run_0000000000000000000000000000002a";

fn key(house: &House, branch: &str, kind: MemoKind, name: &str) -> MemoKey {
    let owner = MemoOwner {
        repository: house.repository.id,
        daemon: build::name("test"),
        branch: build::name(branch),
    };
    MemoKey { owner, kind, name: build::name(name) }
}

/// A variable on `main` as it is kept; nothing when it was never set.
async fn kept(house: &House, name: &str) -> Option<Value> {
    let key = key(house, "main", MemoKind::Variable, name);
    let memo = house.store.memo_get(&key).await.unwrap()?;
    let plain = house.world.vault.open(&key.bound(), &memo.sealed).await.unwrap();
    Some(serde_json::from_slice(&plain).unwrap())
}

/// Another run sets a variable.
async fn set(house: &House, name: &str, json: Json) {
    let key = key(house, "main", MemoKind::Variable, name);
    let plain = serde_json::to_vec(&Value::trusted(json)).unwrap();
    let write = MemoWrite {
        expected: Expected::Anything,
        written: domain::id::MemoWriteId::new(house.clock.unique()),
        sealed: house.world.vault.seal(&key.bound(), &plain).await.unwrap(),
        size: plain.len(),
        by: MemoAuthor::Run(SOMEBODY.parse().unwrap()),
        at: house.clock.now(),
        key,
    };
    assert_eq!(house.store.memo_put(&write).await.unwrap(), Kept::Written);
}

/// Tells what it was, and makes it what the run is given.
const COUNT: &str = "
  state: { counter: 0, note: null }
  inputs: [{ name: next, type: integer }]
  stages:
    - { name: Count, script: tell WAS, env: { WAS: \"${state.counter}\" }, output: was, set: { counter: \"${next}\", note: \"${was}\" } }
    - { name: Tell, script: tell NOW, env: { NOW: \"${state.counter} ${state.note}\" } }
";

#[tokio::test]
async fn a_variable_is_kept_from_run_to_run() {
    let house = House::new(&[("test", COUNT)]).await;
    for (next, was) in [(1, "0"), (2, "1"), (7, "2")] {
        let ended = house.ended("test", &json!({ "next": next })).await;
        assert_eq!(ended.to_string(), "succeeded (Count succeeded, Tell succeeded)");
        assert_eq!(
            (ended.output("Count"), ended.output("Tell")),
            (was.into(), format!("{next} {was}").into())
        );
    }
    let memo =
        house.store.memo_get(&key(&house, "main", MemoKind::Variable, "counter")).await.unwrap().unwrap();
    assert_eq!((memo.version, memo.size), (3, 1));
    assert_eq!(kept(&house, "counter").await, Some(Value::trusted(7)));
    // The journal says what was read and set, sealed.
    let run = house.start("test", &json!({ "next": 8 })).await;
    house.work().await;
    let journal = house.end_of(run).await.journal;
    let seen = |stage: usize| journal[stage].state.iter().map(|seen| seen.name.as_str()).collect::<Vec<_>>();
    assert_eq!((seen(0), seen(1)), (vec!["counter", "note"], vec![]), "{journal:#?}");
}

#[tokio::test]
async fn a_stage_that_failed_sets_nothing() {
    let stages = "
  state: { counter: 0 }
  stages:
    - { name: Fail, script: \"say 1\\nfail\", output: one, continue_on_error: true, set: { counter: 1 } }
    - { name: Skip, if: \"false\", script: say 2, set: { counter: 2 } }
    - { name: Wrong, script: say 3, continue_on_error: true, set: { counter: \"${nothing}\" } }
    - { name: Long, script: say 4, set: { counter: \"${inputs}\" } }
  inputs: [{ name: long, type: text }]
";
    let house = House::new(&[("test", stages)]).await;
    let ended = house.ended("test", &json!({ "long": "x".repeat(257 << 10) })).await;
    assert_eq!(
        ended.to_string(),
        "failed: Long: `counter` would have 257 KiB; a variable has at most 256 (Fail failed, Skip skipped, Wrong failed, \
         Long failed)"
    );
    assert_eq!(kept(&house, "counter").await, None);
}

#[tokio::test]
async fn a_secret_that_a_run_is_given_is_not_kept() {
    let stages = "
  state: { stolen: null, all: null }
  inputs: [{ name: token, type: secret }]
  stages:
    - { name: All, script: say ok, set: { all: \"${inputs}\" } }
    - { name: One, script: say ok, set: { stolen: \"${default(token, 'nothing')}\" } }
";
    let house = House::new(&[("test", stages)]).await;
    let ended = house.ended("test", &json!({ "token": "hush" })).await;
    assert_eq!(ended.to_string(), "succeeded (All succeeded, One succeeded)");
    assert_eq!(kept(&house, "all").await, Some(Value::trusted(json!({}))));
    assert_eq!(kept(&house, "stolen").await, Some(Value::trusted("nothing")));
}

/// A model that lets others do something while it thinks, so often.
struct Meanwhile {
    doing: mpsc::Sender<()>,
    done: tokio::sync::Mutex<mpsc::Receiver<()>>,
    asked: AtomicUsize,
}

impl Meanwhile {
    /// The model, whoever is told that it thinks, and who says that it may go on.
    fn new() -> (Arc<Self>, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((doing, told), (go, done)) = (mpsc::channel(1), mpsc::channel(1));
        let models = Self { doing, done: tokio::sync::Mutex::new(done), asked: AtomicUsize::new(0) };
        (Arc::new(models), told, go)
    }
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

#[async_trait]
impl Models for Meanwhile {
    async fn ask(
        &self,
        question: Question,
        pieces: mpsc::Sender<String>,
        cancel: CancellationToken,
    ) -> Result<Answer, ModelError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.doing.send(()).await.unwrap();
        self.done.lock().await.recv().await.unwrap();
        ScriptedModels::saying("ok").with_names(&["small"]).ask(question, pieces, cancel).await
    }

    async fn draw(&self, _: Drawing, _: CancellationToken) -> Result<Drawn, ModelError> {
        unreachable!("it does not draw")
    }

    fn names(&self) -> Vec<String> {
        vec!["small".to_owned()]
    }

    fn price(&self, _: &str, _: u64, _: u64) -> Option<NanoUsd> {
        None
    }
}

/// Works on a run of these stages, whose model thinks so often; each time another run sets `counter`. Gives the
/// house, how the run ended and what was said in its log.
async fn contended(stages: &str, times: usize) -> (House, String, String) {
    let (models, mut told, go) = Meanwhile::new();
    let house = House::asking(&[("test", stages)], models.clone()).await;
    let run = house.start("test", &json!({})).await;
    let others = async {
        let mut nth = 0;
        while let Some(()) = told.recv().await {
            nth += 1;
            if nth <= times {
                set(&house, "counter", json!(nth)).await;
            }
            go.send(()).await.unwrap();
        }
    };
    tokio::select! {
        () = house.work() => {}
        () = others => unreachable!("the model is there"),
    }
    let (ended, log) = (house.end_of(run).await, house.log(run).await);
    (house, ended.to_string(), log)
}

#[tokio::test]
async fn who_was_late_sets_nothing_and_says_so() {
    let stages = "
  state: { counter: 0 }
  stages:
    - { name: Read, script: tell WAS, env: { WAS: \"${state.counter}\" }, output: was }
    - { name: Think, agent: small, prompt_template: Well?, output: said, continue_on_error: true, set: { counter: \"${was}\" } }
    - { name: After, script: tell NOW, env: { NOW: \"${state.counter}\" } }
";
    let (house, ended, log) = contended(stages, 1).await;
    assert_eq!(ended, "succeeded (Read succeeded, Think failed, After succeeded)");
    assert!(
        log.contains(
            "run_0000000000000000000000000000002a has written `counter` since this run read it, so that nothing was set"
        ),
        "{log}"
    );
    assert_eq!(kept(&house, "counter").await, Some(Value::trusted(1)));
}

#[tokio::test]
async fn a_stage_that_is_tried_again_reads_anew() {
    let stages = |limit: u32| {
        format!(
            "
  state: {{ counter: 0 }}
  stages:
    - {{ name: Think, type: hybrid, agent: small, script: \"put tries.txt once\\ntell WAS\", env: {{ WAS: \"${{state.counter}}\" }},
        set: {{ counter: [\"${{state.counter}}\"] }}, retry: {{ limit: {limit}, backoff: {{ duration: 1ms }} }} }}
    - {{ name: Files, script: show tries.txt }}
"
        )
    };
    let (house, ended, log) = contended(&stages(2), 2).await;
    assert_eq!(ended, "succeeded (Think succeeded, Files succeeded)", "{log}");
    assert_eq!(kept(&house, "counter").await, Some(Value::trusted(json!([2]))));
    assert_eq!(log.matches("tried again in").count(), 2, "{log}");
    // It goes on from what it left, as with any other failure, and nothing is left twice.
    assert!(log.contains("once once once"), "{log}");
    let runs = house.store.run_list(&Default::default(), &ports::store::Page::first(1)).await.unwrap();
    let calls = house.store.run_journal(runs[0].id).await.unwrap()[0].usage.calls.len();
    assert_eq!(calls, 3, "every try is paid for");

    let (house, ended, _) = contended(&stages(1), 2).await;
    assert!(
        ended.starts_with("failed: Think: run_0000000000000000000000000000002a has written `counter`"),
        "{ended}"
    );
    assert_eq!(kept(&house, "counter").await, Some(Value::trusted(2)));
}

/// Two models: `first` answers when it may, `later` when it may.
#[derive(Debug, Default, Clone)]
struct Gates {
    asked: CancellationToken,
    first: CancellationToken,
    later: CancellationToken,
}

#[async_trait]
impl Models for Gates {
    async fn ask(
        &self,
        question: Question,
        pieces: mpsc::Sender<String>,
        cancel: CancellationToken,
    ) -> Result<Answer, ModelError> {
        if question.choice.targets == ["first"] {
            self.asked.cancel();
            self.first.cancelled().await;
        } else {
            self.later.cancelled().await;
        }
        ScriptedModels::saying("ok").with_names(&["first", "later"]).ask(question, pieces, cancel).await
    }

    async fn draw(
        &self,
        _: ports::models::Drawing,
        _: CancellationToken,
    ) -> Result<ports::models::Drawn, ModelError> {
        unreachable!("it does not draw")
    }

    fn price(&self, _: &str, _: u64, _: u64) -> Option<NanoUsd> {
        None
    }

    fn names(&self) -> Vec<String> {
        vec!["first".to_owned(), "later".to_owned()]
    }
}

/// `Think` was too late and waits to be tried again when `Beside` is recorded and the worker dies: what it had
/// done is not a part of what `Beside` left.
#[tokio::test]
async fn what_was_too_late_does_not_find_itself_done() {
    let stages = "
  state: { counter: 0 }
  stages:
    - { name: Think, needs: [], type: hybrid, agent: first, script: put tries.txt once, set: { counter: [\"${state.counter}\"] }, retry: { limit: 1, backoff: { duration: 1m } } }
    - { name: Beside, needs: [], type: hybrid, agent: later, script: put beside.txt done }
    - { name: Files, needs: [Think, Beside], script: \"show tries.txt\\nshow beside.txt\" }
";
    let gates = Gates::default();
    let house = House::asking(&[("test", stages)], Arc::new(gates.clone())).await;
    let run = house.start("test", &json!({})).await;
    let meanwhile = async {
        gates.asked.cancelled().await;
        set(&house, "counter", json!(7)).await;
        gates.first.cancel();
        house.until(async |house| house.log(run).await.contains("tried again in").then_some(())).await;
        gates.later.cancel();
        let recorded =
            async |house: &House| (!house.store.run_journal(run).await.unwrap().is_empty()).then_some(());
        house.until(recorded).await;
    };
    tokio::select! {
        _ = house.work_once() => panic!("it is a minute until the next try"),
        () = meanwhile => {}
    }
    house.clock.advance(house.world.settings.lease);
    house.work().await;
    let ended = house.end_of(run).await;
    assert_eq!(ended.to_string(), "succeeded (Beside succeeded, Think succeeded, Files succeeded)");
    assert_eq!(ended.output("Files"), "once done ");
    assert_eq!(kept(&house, "counter").await, Some(Value::trusted(json!([7]))));
}

#[tokio::test]
async fn what_a_run_never_read_it_may_replace() {
    let stages = "
  state: { counter: 0 }
  stages:
    - { name: Think, agent: small, prompt_template: Well?, set: { counter: 9 } }
";
    let (house, ended, _) = contended(stages, 1).await;
    assert_eq!(ended, "succeeded (Think succeeded)");
    assert_eq!(kept(&house, "counter").await, Some(Value::trusted(9)));
}

/// The worker dies after `Read`, or after `Set`; another run writes before the next one goes on.
#[tokio::test]
async fn a_run_that_goes_on_knows_what_its_journal_says() {
    let stages = "
  state: { counter: 0, own: 0 }
  stages:
    - { name: Read, script: tell WAS, env: { WAS: \"${state.counter} ${state.own}\" }, output: was, set: { own: 5 } }
    - { name: Think, agent: small, prompt_template: \"${state.counter} ${state.own}\", output: said }
    - { name: Again, script: tell WAS, env: { WAS: \"${state.counter} ${state.own}\" } }
    - { name: Late, script: say ok, set: { own: 6 } }
";
    let (models, mut told, go) = Meanwhile::new();
    let house = House::asking(&[("test", stages)], models.clone()).await;
    set(&house, "counter", json!(3)).await;
    let run = house.start("test", &json!({})).await;
    tokio::select! {
        _ = house.work_once() => panic!("the model does not answer"),
        told = told.recv() => told.unwrap(),
    }
    // The worker is gone while its model thinks.
    set(&house, "counter", json!(100)).await;
    set(&house, "own", json!(100)).await;
    house.clock.advance(house.world.settings.lease);
    go.send(()).await.unwrap();
    house.work().await;
    let ended = house.end_of(run).await;
    assert_eq!(ended.output("Read"), "3 0");
    assert_eq!(ended.output("Again"), "3 5");
    assert!(
        ended.to_string().starts_with("failed: Late: run_0000000000000000000000000000002a has written `own`"),
        "{ended}"
    );
    assert_eq!(kept(&house, "own").await, Some(Value::trusted(100)));
}

#[tokio::test]
async fn a_replay_reads_for_itself() {
    let house = House::new(&[("test", COUNT)]).await;
    let first = house.ended("test", &json!({ "next": 1 })).await;
    set(&house, "counter", json!(50)).await;
    let request = crate::replay::Request {
        run: first.run.id,
        from_stage: Some("Tell".to_owned()),
        agent: None,
        actor: build::actor(),
    };
    let again = crate::replay::start(&house.world, request).await.unwrap().run;
    house.work().await;
    let again = house.end_of(again).await;
    assert_eq!(again.to_string(), "succeeded (Count succeeded, Tell succeeded)");
    assert_eq!(again.output("Tell"), "50 0");
    assert_eq!(
        kept(&house, "counter").await,
        Some(Value::trusted(50)),
        "what is taken over is not set again"
    );
}

#[tokio::test]
async fn a_fork_has_variables_of_its_own() {
    let house = House::new(&[("test", COUNT)]).await;
    let main = house.git(&["rev-parse", "refs/heads/main"]);
    let fork = build::name("fork");
    let commit = build::name(&main);
    ports::source::Source::move_branch(&*house.source, house.repository.id, &fork, None, Some(&commit))
        .await
        .unwrap();
    let pushed =
        crate::reconcile::Pushed { branches: vec![fork], actor: Some(build::actor()), skip_runs: true };
    crate::reconcile::repository(&house.world, house.repository.id, &pushed).await.unwrap();
    house.dispatch().await;
    for (daemon, next, was) in
        [("test", 1, "0"), ("test@fork", 7, "0"), ("test", 2, "1"), ("test@fork", 8, "7")]
    {
        let ended = house.ended(daemon, &json!({ "next": next })).await;
        assert_eq!(ended.output("Count"), was, "{daemon} {next}");
    }
}

#[tokio::test]
async fn a_variable_is_as_tainted_as_what_it_was_set_from() {
    let stages = "
  state: { said: nothing, sure: 1 }
  stages:
    - { name: Tell, script: tell SURE, env: { SURE: \"${state.sure}\" } }
    - { name: Repeat, needs: [], script: tell SAID, env: { SAID: \"${state.said}\" } }
    - { name: All, needs: [], script: tell SAID, env: { SAID: \"${state}\" } }
    - { name: Ask, needs: [Tell, Repeat, All], agent: small, prompt_template: Well?, output: answer, set: { said: \"${answer}\", sure: 2 } }
";
    let house = House::new(&[("test", stages)]).await;
    let mut taints = Vec::new();
    for _ in 0..2 {
        let ended = house.ended("test", &json!({})).await;
        let taint = |path: &str| {
            let record = ended.journal.iter().find(|record| record.path.as_str() == path).unwrap();
            record.output.as_ref().unwrap().value.taint
        };
        taints.push(["Tell", "Repeat", "All"].map(taint));
    }
    let (trusted, external) = (Taint::Trusted, Taint::External);
    assert_eq!(taints, [[trusted, trusted, trusted], [trusted, external, external]]);
    assert_eq!(kept(&house, "said").await, Some(Value::external("ok")));
}

#[tokio::test]
async fn a_list_sets_for_each_item_and_an_outcome_tells() {
    let stages = "
  state: { last: none, sum: [] }
  stages:
    - name: Each
      type: foreach
      items: '${fromJSON(\"[1,2,3]\")}'
      stages: [{ name: Add, script: tell WAS, env: { WAS: \"${state.sum}\" }, set: { sum: [\"${state.sum}\", \"${item}\"] } }]
      output: all
      set: { last: \"${all}\" }
  outcomes: [{ create-check: { name: Sum, summary: \"${state.sum} ${state.last}\" } }]
";
    let house = House::new(&[("test", stages)]).await;
    let ended = house.ended("test", &json!({})).await;
    assert_eq!(ended.outcome(), "succeeded");
    assert_eq!(kept(&house, "sum").await.map(|value| value.json), Some(json!([[[[], 1], 2], 3])));
    assert_eq!(
        kept(&house, "last").await.map(|value| value.json),
        Some(json!(["[]", "[[],1]", "[[[],1],2]"]))
    );
    let effects = ports::store::Outbox::effect_list(&*house.store, ended.run.id).await.unwrap();
    let shown = serde_json::to_string(&effects[0].kind).unwrap();
    assert!(shown.contains("[[[[],1],2],3] "), "{shown}");
}

/// The worker dies between two items; meanwhile another run empties the list.
#[tokio::test]
async fn a_list_is_the_same_after_a_crash() {
    let stages = "
  state: { queue: [a, b] }
  stages:
    - name: Each
      type: foreach
      items: '${state.queue}'
      stages:
        - { name: Tell, script: tell ITEM, env: { ITEM: \"${item}\" } }
        - { name: Think, agent: small, prompt_template: \"${item}\", output: said }
      output: all
";
    let (models, mut told, go) = Meanwhile::new();
    let house = House::asking(&[("test", stages)], models.clone()).await;
    let run = house.start("test", &json!({})).await;
    tokio::select! {
        _ = house.work_once() => panic!("the model does not answer"),
        told = told.recv() => told.unwrap(),
    }
    set(&house, "queue", json!([])).await;
    house.clock.advance(house.world.settings.lease);
    let answering = async {
        while let Some(()) = told.recv().await {
            go.send(()).await.unwrap();
        }
    };
    go.send(()).await.unwrap();
    tokio::select! {
        () = house.work() => {}
        () = answering => unreachable!("the model is there"),
    }
    let ended = house.end_of(run).await;
    assert_eq!(ended.output("Each"), json!(["ok", "ok"]), "{ended}");
    assert_eq!(ended.output("Each[1]/Tell"), "b");
}

/// What was said before the last question, each as `who: words`.
fn heard(question: &Question) -> Vec<String> {
    let line = |message: &Message| match message {
        Message::User { text, .. } => format!("user: {text}"),
        Message::Assistant { text, calls } => format!("model: {text} {}", calls.len()),
        Message::Results(results) => format!("results: {}", results.len()),
    };
    question.messages.iter().map(line).collect()
}

/// Models that answer with how often they were asked.
fn counting() -> Arc<ScriptedModels> {
    let asked = AtomicUsize::new(0);
    let models = ScriptedModels::new(move |question| {
        let nth = asked.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(ScriptedModels::answer(question, &format!("answer {nth}")))
    });
    Arc::new(models.with_names(&["small"]))
}

const TALK: &str = "
  inputs: [{ name: topic }, { name: question }]
  stages:
    - { name: Ask, agent: small, input: \"${question}\", session: \"about-${topic}\" }
";

#[tokio::test]
async fn a_conversation_is_kept_under_its_key() {
    let models = counting();
    let house = House::asking(&[("test", TALK)], models.clone()).await;
    for (topic, question) in [("a", "One?"), ("b", "Two?"), ("a", "Three?")] {
        let ended = house.ended("test", &json!({ "topic": topic, "question": question })).await;
        assert_eq!(ended.outcome(), "succeeded");
    }
    let questions = models.questions();
    let heard: Vec<_> = questions.iter().map(heard).collect();
    assert_eq!(heard[1], ["user: Two?"]);
    assert_eq!(heard[2], ["user: One?", "model: answer 1 0", "user: Three?"]);
    let stays: Vec<_> = questions.iter().map(|question| question.choice.stays_with.as_deref()).collect();
    assert_eq!(stays, [None, None, Some("small")]);
    // What is not used for long is forgotten.
    house.clock.advance(domain::memo::SESSION_LIFE);
    house.ended("test", &json!({ "topic": "a", "question": "Four?" })).await;
    assert_eq!(self::heard(&models.questions()[3]), ["user: Four?"]);
}

#[tokio::test]
async fn a_conversation_goes_on_with_tools_and_without() {
    let stages = "
  stages:
    - { name: Work, type: agent, agent: small, input: Look., session: s }
    - { name: Ask, agent: small, input: And?, session: s }
    - { name: More, agent: small, tools: [list], input: More?, session: s }
";
    let asked = AtomicUsize::new(0);
    let models = ScriptedModels::new(move |question| {
        Ok(match asked.fetch_add(1, Ordering::Relaxed) {
            0 => ScriptedModels::calling(question, "I look.", &[("list", json!({}))]),
            _ => ScriptedModels::answer(question, "done"),
        })
    });
    let models = Arc::new(models.with_names(&["small"]));
    let house = House::asking(&[("test", stages)], models.clone()).await;
    let ended = house.ended("test", &json!({})).await;
    assert_eq!(ended.to_string(), "succeeded (Work succeeded, Ask succeeded, More succeeded)");
    let heard: Vec<_> = models.questions().iter().map(heard).collect();
    assert_eq!(heard[2], ["user: Look.", "model: done 0", "user: And?"]);
    let worked = ["user: Look.", "model: I look. 1", "results: 1", "model: done 0"];
    assert_eq!(heard[3], [&worked[..], &["user: And?", "model: done 0", "user: More?"]].concat());
}

#[tokio::test]
async fn a_failed_question_is_not_kept_and_a_key_must_be_one() {
    let asked = AtomicUsize::new(0);
    let models = ScriptedModels::new(move |question| match asked.fetch_add(1, Ordering::Relaxed) {
        1 => Err(ScriptedModels::failure("model_unavailable", "small is away", Retry::Later)),
        _ => Ok(ScriptedModels::answer(question, "ok")),
    });
    let models = Arc::new(models.with_names(&["small"]));
    let daemons = [
        ("test", TALK),
        ("none", "\n  stages: [{ name: Ask, agent: small, input: Hm?, session: \"${event.number}\" }]\n"),
    ];
    let house = House::asking(&daemons, models.clone()).await;
    for question in ["One?", "Two?", "Three?"] {
        house.ended("test", &json!({ "topic": "a", "question": question })).await;
    }
    assert_eq!(heard(&models.questions()[2]), ["user: One?", "model: ok 0", "user: Three?"]);
    let ended = house.ended("none", &json!({})).await;
    assert!(
        ended.outcome().starts_with("failed: Ask: the `session` of the stage cannot be a key"),
        "{ended}"
    );
    assert_eq!(models.questions().len(), 3);
}

/// Of two stages with one session the second waits, and hears what the first one said.
#[tokio::test]
async fn who_asks_in_a_session_waits_for_the_answer_before() {
    let (models, mut told, go) = Meanwhile::new();
    let stages = "
  stages:
    - { name: One, needs: [], agent: small, input: One?, session: s }
    - { name: Two, needs: [], agent: small, input: Two?, session: s }
";
    let house = House::asking(&[("test", stages)], models.clone()).await;
    let run = house.start("test", &json!({})).await;
    let asking = async {
        for nth in 1..=2 {
            told.recv().await.unwrap();
            assert_eq!(models.asked.load(Ordering::Relaxed), nth, "both asked at once");
            go.send(()).await.unwrap();
        }
    };
    tokio::join!(house.work(), asking);
    assert_eq!(house.end_of(run).await.outcome(), "succeeded");
    let key = key(&house, "main", MemoKind::Session, "s");
    let memo = house.store.memo_get(&key).await.unwrap().unwrap();
    let plain = house.world.vault.open(&key.bound(), &memo.sealed).await.unwrap();
    let talk: Json = serde_json::from_slice(&plain).unwrap();
    assert_eq!((memo.version, talk["turns"].as_array().unwrap().len()), (2, 2), "{talk}");
}

/// Another server, which this one does not see waiting, was first.
#[tokio::test]
async fn who_was_late_in_a_session_keeps_nothing() {
    let (models, mut told, go) = Meanwhile::new();
    let stages = "\n  stages: [{ name: Ask, agent: small, input: One?, session: s }]\n";
    let house = House::asking(&[("test", stages)], models.clone()).await;
    let run = house.start("test", &json!({})).await;
    let key = key(&house, "main", MemoKind::Session, "s");
    let elsewhere = async {
        told.recv().await.unwrap();
        let plain = br#"{"target":"small","turns":[]}"#;
        let write = MemoWrite {
            expected: Expected::Absent,
            written: domain::id::MemoWriteId::new(house.clock.unique()),
            sealed: house.world.vault.seal(&key.bound(), plain).await.unwrap(),
            size: plain.len(),
            by: MemoAuthor::Run(SOMEBODY.parse().unwrap()),
            at: house.clock.now(),
            key: key.clone(),
        };
        assert_eq!(house.store.memo_put(&write).await.unwrap(), Kept::Written);
        go.send(()).await.unwrap();
    };
    tokio::join!(house.work(), elsewhere);
    let ended = house.end_of(run).await.to_string();
    assert!(
        ended.starts_with("failed: Ask: run_0000000000000000000000000000002a has spoken in the session `s` while this stage waited"),
        "{ended}"
    );
    assert_eq!(house.store.memo_get(&key).await.unwrap().unwrap().version, 1);
}

/// Waiting for one's turn ends with the run.
#[tokio::test]
async fn who_waits_in_a_session_can_be_ended() {
    let (models, mut told, _go) = Meanwhile::new();
    let stages = "
  stages:
    - { name: One, needs: [], agent: small, input: One?, session: s }
    - { name: Two, needs: [], agent: small, input: Two?, session: s, timeout: 20ms, continue_on_error: true }
";
    let house = House::asking(&[("test", stages)], models.clone()).await;
    let run = house.start("test", &json!({})).await;
    tokio::select! {
        _ = house.work_once() => panic!("the model does not answer"),
        () = async {
            told.recv().await.unwrap();
            house.until(async |house| {
                let journal = house.store.run_journal(run).await.unwrap();
                journal.iter().any(|record| record.end.as_str() == "timed_out").then_some(())
            }).await;
        } => {}
    }
}
