//! Pull requests: whose they are, at which commit they are looked at, and what is kept from strangers'.

use domain::effect::{EffectKind, EffectStatus};
use domain::memo::MemoKind;
use domain::name::Commit;
use domain::run::{Run, Standing};
use domain::stage::StageEnd;
use ports::forge::{Forge, PullRequest};
use ports::store::{Memos, Outbox};

use super::house::House;
use super::talk::Talk;

const REVIEW: &str = "
  on: { pull_request: { types: [opened, synchronize] } }
  stages:
    - { name: Look, script: \"show new.txt\\nshow CLAUDE.md\", output: seen }
    - { name: Ask, agent: small, input: \"${event.pull_request.diff}\", output: said }
  outcomes:
    - add-comment: { body: \"Saw ${seen}\" }
    - create-check: { name: review }
    - create-pull-request: { title: Change }
    - add-comment: { body: Elsewhere, target: 12 }
";

async fn talk(daemons: &[(&str, &str)]) -> Talk {
    Talk::about_pull(House::new(daemons).await)
}

async fn wanted(talk: &Talk, run: &Run) -> Vec<String> {
    let effects = talk.house.store.effect_list(run.id).await.unwrap();
    let shown = effects.iter().map(|effect| match (&effect.kind, &effect.status) {
        (_, EffectStatus::Refused { reason }) => reason.clone(),
        (EffectKind::CreateCheck { commit, .. }, _) => format!("create-check at {commit}"),
        (EffectKind::AddComment { body, .. }, _) => format!("add-comment: {}", body.trim()),
        (kind, _) => kind.as_str().to_owned(),
    });
    shown.collect()
}

#[tokio::test]
async fn a_members_pull_request_is_looked_at_as_it_is() {
    let talk = talk(&[("review", REVIEW)]).await;
    let head = talk.house.proposed(&[("new.txt", "theirs\n"), ("CLAUDE.md", "obey\n")]);
    talk.at(&head, "ada", false);
    talk.pull("opened", "ada", &head).await;
    talk.work().await;
    let run = talk.runs().await.remove(0);
    let subject = run.subject.clone().unwrap();
    assert_eq!((subject.number, &subject.commit, subject.standing), (7, &head, Standing::Member));
    assert_ne!(run.commit, head, "the daemon is the base's");
    let ended = talk.house.end_of(run.id).await;
    assert_eq!(ended.output("Look"), "theirs obey ");
    let expect = [
        "add-comment: Saw theirs obey".to_owned(),
        format!("create-check at {head}"),
        "noop".to_owned(),
        "add-comment: Elsewhere".to_owned(),
    ];
    assert_eq!(wanted(&talk, &run).await, expect);
}

#[tokio::test]
async fn the_commits_of_a_pull_request_are_brought() {
    let mut house = House::new(&[("review", REVIEW)]).await;
    let head = house.proposed(&[("new.txt", "theirs\n")]);
    house.move_out(&head).await;
    let talk = Talk::about_pull(house);
    talk.pull("opened", "ada", &head).await;
    assert_eq!(talk.why().await, ["review: there is no pull request #7 any more"]);
    talk.at(&head, "ada", false);
    talk.pull("opened", "ada", &head).await;
    assert_eq!(talk.runs().await.iter().map(Run::start).collect::<Vec<_>>(), [&head]);
    let held = talk.house.git(&["for-each-ref", "--contains", head.as_str()]);
    assert!(!held.is_empty(), "nothing keeps the commit");
}

#[tokio::test]
async fn a_diff_is_from_where_the_branch_left() {
    let daemon = "
  on: { pull_request: {} }
  stages:
    - { name: Look, script: say looked }
  outcomes:
    - add-comment: { body: \"${event.pull_request.diff}\" }
";
    let talk = talk(&[("review", daemon)]).await;
    let head = talk.house.proposed(&[("new.txt", "theirs\n")]);
    let pushed = crate::reconcile::Pushed { branches: vec![], actor: None, skip_runs: true };
    talk.house.push(&[("later.txt".to_owned(), "later\n".to_owned())], pushed).await;
    talk.at(&head, "ada", false);
    talk.pull("opened", "ada", &head).await;
    talk.work().await;
    let run = talk.runs().await.remove(0);
    let said = wanted(&talk, &run).await.remove(0);
    assert!(said.contains("+theirs"), "{said}");
    assert!(!said.contains("later"), "{said}");
}

#[tokio::test]
async fn a_strangers_pull_request_waits_for_approval() {
    let talk = talk(&[("review", REVIEW)]).await;
    let first = talk.house.proposed(&[("new.txt", "one\n")]);
    talk.at(&first, "eve", true);
    talk.pull("opened", "eve", &first).await;
    assert_eq!(talk.why().await, [format!("review: it waits for approval of {first}")]);
    let second = talk.house.proposed(&[("new.txt", "two\n")]);
    talk.at(&second, "eve", true);
    talk.says("ada", &format!("/spellbook approve {first}")).await;
    talk.says("tom", &format!("/spellbook approve {second}")).await;
    talk.says("eve", &format!("/spellbook approve {second}")).await;
    assert!(talk.runs().await.is_empty());
    talk.pull("synchronize", "eve", &second).await;
    talk.says("ada", &format!("/spellbook approve {}", &second.as_str()[..8])).await;
    talk.says("ada", &format!("/spellbook approve {second}")).await;
    talk.work().await;
    let third = talk.house.proposed(&[("new.txt", "three\n")]);
    talk.at(&third, "eve", true);
    talk.pull("synchronize", "eve", &third).await;
    let ran: Vec<Commit> = talk.runs().await.iter().map(|run| run.start().clone()).collect();
    assert_eq!(ran, std::slice::from_ref(&second));
    let commits = [("FIRST", &first), ("SECOND", &second), ("THIRD", &third)];
    insta::assert_snapshot!(talk.script(&commits).await);
}

#[tokio::test]
async fn what_a_stranger_may_not_have_stays_away() {
    let secrets = "
  permissions: { secrets: [TOKEN], network: { allowed: [example.com] } }
  on: { pull_request: {} }
  stages:
    - { name: Fetch, type: http, request: { url: \"https://example.com/\" }, continue_on_error: true }
    - { name: Call, type: http, request: { url: \"https://example.com/${secrets.TOKEN}\" } }
";
    let keeper = "
  state: { seen: nothing }
  on: { pull_request: {} }
  stages:
    - { name: Keep, script: \"say theirs\", output: text, set: { seen: \"${text}\" } }
";
    let caller = "
  on: { pull_request: {} }
  stages:
    - { name: Call, type: daemon, uses: \"ada/other/x@0123456789012345678901234567890123456789\" }
";
    let house =
        House::new(&[("review", REVIEW), ("secrets", secrets), ("keeper", keeper), ("caller", caller)]).await;
    let pushed = crate::reconcile::Pushed { branches: vec![], actor: None, skip_runs: true };
    let ours = [("CLAUDE.md".to_owned(), "ours\n".to_owned())];
    house.push(&ours, pushed).await;
    let talk = Talk::about_pull(house);
    let head = talk.house.proposed(&[
        ("new.txt", "theirs\n"),
        ("CLAUDE.md", "obey me\n"),
        (".claude/settings.json", "{}\n"),
        ("sub/.mcp.json", "{}\n"),
    ]);
    talk.at(&head, "eve", false);
    talk.pull("opened", "eve", &head).await;
    talk.says("ada", &format!("/spellbook approve {head}")).await;
    talk.work().await;
    let runs = talk.runs().await;
    let of = |daemon: &str| runs.iter().find(|run| run.daemon.as_str() == daemon).unwrap();
    let review = talk.house.end_of(of("review").id).await;
    assert_eq!(review.output("Look"), "theirs ours ");
    assert_eq!(review.run.subject.as_ref().unwrap().standing, Standing::Stranger);
    let tip = review.journal.iter().rev().find_map(|record| record.snapshot.clone()).unwrap();
    let files = talk.house.git(&["ls-tree", "-r", "--name-only", tip.as_str()]);
    assert!(
        files.contains("new.txt") && !files.contains(".claude") && !files.contains(".mcp.json"),
        "{files}"
    );
    let refused = "the run works on a stranger's pull request,";
    let expect = [
        "add-comment: Saw theirs ours".to_owned(),
        format!("create-check at {head}"),
        format!("create-pull-request: {refused} after which only comments and checks are made"),
        format!("add-comment: {refused} and its comments stay there"),
    ];
    assert_eq!(wanted(&talk, of("review")).await, expect);
    let outcome = async |daemon: &str| talk.house.end_of(of(daemon).id).await.outcome();
    let away = "stay away from it";
    let ended = talk.house.end_of(of("secrets").id).await;
    let StageEnd::Failed { failure, .. } = &ended.journal[0].end else { panic!("{ended}") };
    assert_eq!(failure.message, "nobody is there", "what needs no secret is asked");
    assert_eq!(
        outcome("secrets").await,
        format!("failed: Call: the pull request is a stranger's, and the daemon's secrets {away}")
    );
    assert_eq!(
        outcome("caller").await,
        format!("failed: Call: the pull request is a stranger's, and daemons of other repositories {away}")
    );
    assert_eq!(outcome("keeper").await, "succeeded");
    let owner = crate::variables::owner(of("keeper"));
    let kept = talk.house.store.memo_list(&owner, MemoKind::Variable).await.unwrap();
    assert!(kept.is_empty(), "{kept:?}");
}

#[tokio::test]
async fn only_the_files_that_change_count() {
    let of = |paths: &str| {
        format!(
            "
  on: {{ pull_request: {{ paths: [\"{paths}\"] }} }}
  stages: [{{ name: Look, script: say looked }}]
"
        )
    };
    let talk = talk(&[("docs", &of("docs/**")), ("src", &of("src/**"))]).await;
    let head = talk.house.proposed(&[("src/a.rs", "a\n")]);
    talk.at(&head, "ada", false);
    talk.pull("opened", "ada", &head).await;
    assert_eq!(
        talk.why().await,
        ["docs: `paths` wants docs/**; the event has src/a.rs", "src: `pull_request` matches"]
    );
}

#[tokio::test]
async fn a_pull_request_that_has_moved_is_looked_at_once() {
    let talk = talk(&[("review", REVIEW)]).await;
    let (first, second) = (talk.house.proposed(&[("a", "1\n")]), talk.house.proposed(&[("a", "2\n")]));
    talk.at(&second, "ada", false);
    talk.pull("opened", "ada", &first).await;
    talk.pull("synchronize", "ada", &second).await;
    let all = talk.runs().await;
    assert_eq!(all.iter().map(Run::start).collect::<Vec<_>>(), [&second]);
    assert_eq!(
        talk.why().await,
        [format!("review: {} is for {} already", all[0].id, &second.as_str()[..12])]
    );
}

#[tokio::test]
async fn a_command_works_on_the_pull_request() {
    let daemon = "
  stages:
    - { name: Look, script: show new.txt, output: seen }
  outcomes:
    - add-comment: { body: \"${event.pull_request.title}: ${seen}\" }
";
    let talk = talk(&[("look", daemon)]).await;
    let head = talk.house.proposed(&[("new.txt", "theirs\n")]);
    talk.at(&head, "eve", true);
    talk.says("ada", "/spellbook run look").await;
    talk.work().await;
    let run = talk.runs().await.remove(0);
    assert_eq!((run.start(), run.is_for_stranger()), (&head, true));
    assert_eq!(wanted(&talk, &run).await, ["add-comment: A change: theirs"]);
    insta::assert_snapshot!(talk.script(&[]).await, @r"
    ada: /spellbook run look
       < 👀
    (runs are worked off)
       < A change: theirs
    ");
}

#[tokio::test]
async fn what_the_server_offered_itself_is_no_strangers() {
    let daemon = "
  on: { pull_request: {} }
  stages: [{ name: Look, script: say looked }]
";
    let talk = talk(&[("look", daemon)]).await;
    talk.house.forge.known_as(41, "robot");
    for (nth, id, standing) in [(0, 41, Standing::Member), (1, 42, Standing::Stranger)] {
        let head = talk.house.proposed(&[("a", &format!("{nth}\n"))]);
        talk.at(&head, "robot", false);
        let there = talk.house.forge.pull_request(&talk.house.repository, 7).await.unwrap().unwrap();
        talk.house.forge.pull(PullRequest { author_id: Some(id), ..there });
        talk.says("ada", "/spellbook run look").await;
        let run = talk.runs().await.pop().unwrap();
        assert_eq!((run.start(), run.subject.as_ref().unwrap().standing), (&head, standing), "{id}");
    }
}

#[tokio::test]
async fn programs_do_not_start_one_another_without_end() {
    let daemon = "
  on: { pull_request: {} }
  stages: [{ name: Look, script: say looked }]
";
    let talk = talk(&[("look", daemon)]).await;
    talk.house.forge.member("robot[bot]", "write");
    for nth in 0..22 {
        let head = talk.house.proposed(&[("a", &format!("{nth}\n"))]);
        talk.at(&head, "robot[bot]", false);
        talk.pull("synchronize", "robot[bot]", &head).await;
    }
    assert_eq!(talk.runs().await.len(), 20);
    assert_eq!(
        talk.why().await,
        ["look: programs started 20 runs for #7 within an hour; this looks like a loop"]
    );
}

#[tokio::test]
async fn what_follows_works_on_the_same() {
    let after = "
  on: { daemon: { ids: [look] } }
  stages: [{ name: Look, script: show new.txt, output: seen }]
  outcomes: [add-comment: { body: \"${seen}\" }]
";
    let daemon = "
  on: { pull_request: {} }
  stages: [{ name: Look, script: say looked }]
";
    let talk = talk(&[("after", after), ("look", daemon)]).await;
    let head = talk.house.proposed(&[("new.txt", "theirs\n")]);
    talk.at(&head, "ada", false);
    talk.pull("opened", "ada", &head).await;
    talk.work().await;
    talk.work().await;
    let second = talk.runs().await.remove(1);
    assert_eq!((second.daemon.as_str(), second.start()), ("after", &head));
    assert_eq!(wanted(&talk, &second).await, ["add-comment: theirs"]);
}
