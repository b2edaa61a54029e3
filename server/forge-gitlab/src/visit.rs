//! A repository that the forge is asked about, or changed in: opened once, then asked below its number, which stays
//! when it is renamed.

use domain::repository::{Place, Repository};
use forge_remote::{Failure, Own, Verb};
use serde_json::Value;

use crate::gitlab::GitLab;
use crate::thing;

/// A repository, opened.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) gitlab: &'a GitLab,
    pub(crate) repository: &'a Repository,
    pub(crate) place: &'a Place,
    /// The project, in the shape of all repositories.
    pub(crate) described: Value,
    /// Whether everybody may read it.
    pub(crate) is_public: bool,
    /// Its path as it is now.
    pub(crate) path: String,
    pub(crate) own: &'a Own,
}

impl GitLab {
    pub(crate) async fn visit<'a>(&'a self, repository: &'a Repository) -> Result<Visit<'a>, Failure> {
        let name = &self.account.config.name;
        let place = repository.origin.place().filter(|place| place.forge == *name);
        let place = place.ok_or_else(|| Failure::Refused(format!("{} is not on {name}", repository.path)))?;
        let project = self.account.get(&format!("/projects/{}", place.id)).await?;
        let path = thing::place(name, &project).ok_or_else(|| self.account.odd("a project"))?.path;
        let own = self.own().await?;
        let is_public = project["visibility"] == "public";
        let described = thing::repository(&project);
        Ok(Visit { gitlab: self, repository, place, described, is_public, path, own })
    }
}

impl Visit<'_> {
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.gitlab.account.get(&self.below(path)).await
    }

    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        self.gitlab.account.find(&self.below(path)).await
    }

    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        self.gitlab.account.list(&self.below(path)).await
    }

    pub(crate) async fn list_while(
        &self,
        path: &str,
        most_pages: usize,
        wanted: impl Fn(&Value) -> bool + Send,
    ) -> Result<Vec<Value>, Failure> {
        self.gitlab.account.list_while(&self.below(path), most_pages, wanted).await
    }

    pub(crate) async fn write(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.gitlab.account.write(self.place.id, verb, &self.below(path), body).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.write(Verb::Post, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.write(Verb::Put, path, Some(body)).await
    }

    fn below(&self, path: &str) -> String {
        format!("/projects/{}{path}", self.place.id)
    }
}
