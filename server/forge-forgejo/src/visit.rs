//! A repository that the forge is asked about, or changed in: opened once, then asked below its path.

use domain::repository::{Place, Repository};
use forge_remote::{Failure, Own, Verb};
use serde_json::Value;

use crate::forgejo::Forgejo;
use crate::shape;

/// A repository, opened.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) forgejo: &'a Forgejo,
    pub(crate) repository: &'a Repository,
    pub(crate) place: &'a Place,
    /// The repository, in Forgejo's words.
    pub(crate) described: Value,
    /// Its path as it is now.
    pub(crate) path: String,
    pub(crate) own: &'a Own,
}

impl Forgejo {
    pub(crate) async fn visit<'a>(&'a self, repository: &'a Repository) -> Result<Visit<'a>, Failure> {
        let name = &self.account.config.name;
        let place = repository.origin.place().filter(|place| place.forge == *name);
        let place = place.ok_or_else(|| Failure::Refused(format!("{} is not on {name}", repository.path)))?;
        let described = self.described(place).await?;
        let found = shape::place(name, &described).ok_or_else(|| self.account.odd("a repository"))?;
        if found.id != place.id {
            return Err(Failure::Refused(format!("{} is another repository now", place.path)));
        }
        let own = self.own().await?;
        Ok(Visit { forgejo: self, repository, place, described, path: found.path, own })
    }

    /// What is there under the path that we know, when it still is the same repository; else whatever has
    /// its number: it was renamed, and perhaps another took its name.
    async fn described(&self, place: &Place) -> Result<Value, Failure> {
        match self.account.find(&format!("/repos/{}", place.path)).await? {
            Some(found) if shape::number(&found, "/id") == Some(place.id) => Ok(found),
            Some(_) | None => self.account.get(&format!("/repositories/{}", place.id)).await,
        }
    }
}

impl Visit<'_> {
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.forgejo.account.get(&self.below(path)).await
    }

    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        self.forgejo.account.find(&self.below(path)).await
    }

    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        self.forgejo.account.list(&self.below(path)).await
    }

    pub(crate) async fn list_while(
        &self,
        path: &str,
        most_pages: usize,
        wanted: impl Fn(&Value) -> bool + Send,
    ) -> Result<Vec<Value>, Failure> {
        self.forgejo.account.list_while(&self.below(path), most_pages, wanted).await
    }

    pub(crate) async fn write(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.forgejo.account.write(self.place.id, verb, &self.below(path), body).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.write(Verb::Post, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.write(Verb::Patch, path, Some(body)).await
    }

    fn below(&self, path: &str) -> String {
        format!("/repos/{}{path}", self.path)
    }
}
