//! A look into one repository: under its number, wherever it is called now, and with a token for it.

use domain::repository::{Place, Repository};
use forge_remote::{Failure, Verb};
use serde_json::Value;

use crate::github::{GitHub, Own};
use crate::shape;
use crate::tokens::{Permissions, Token, odd};

/// A repository of a GitHub, with its door open.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) github: &'a GitHub,
    pub(crate) repository: &'a Repository,
    pub(crate) place: &'a Place,
    /// GitHub's own description of it.
    pub(crate) described: Value,
    /// What it is called now.
    pub(crate) path: String,
    pub(crate) token: Token,
}

impl GitHub {
    /// Opens a repository for reading.
    pub(crate) async fn visit<'a>(&'a self, repository: &'a Repository) -> Result<Visit<'a>, Failure> {
        let place = self.place_of(repository)?;
        let token = self.reading(place).await?;
        let opened = self.open(repository, place, token).await;
        if let Err(Failure::Refused(_) | Failure::Missing(_)) = &opened {
            self.forget_token(place);
        }
        opened
    }

    /// Opens a repository for one effect.
    pub(crate) async fn visit_to_write<'a>(
        &'a self,
        repository: &'a Repository,
        permissions: Permissions,
    ) -> Result<Visit<'a>, Failure> {
        self.foresee_write(self.place_of(repository)?.id)?;
        self.visit_with(repository, permissions).await
    }

    /// Opens a repository with a token for just that.
    pub(crate) async fn visit_with<'a>(
        &'a self,
        repository: &'a Repository,
        permissions: Permissions,
    ) -> Result<Visit<'a>, Failure> {
        let place = self.place_of(repository)?;
        let token = self.writing(place, permissions).await?;
        self.open(repository, place, token).await
    }

    fn place_of<'a>(&self, repository: &'a Repository) -> Result<&'a Place, Failure> {
        let place = repository.origin.place().filter(|place| place.forge == self.config.name);
        place.ok_or_else(|| Failure::Refused(format!("{} is not on {}", repository.path, self.config.name)))
    }

    async fn open<'a>(
        &'a self,
        repository: &'a Repository,
        place: &'a Place,
        token: Token,
    ) -> Result<Visit<'a>, Failure> {
        let described = self.described(place, &token).await?;
        let found = shape::place(&self.config.name, &described).ok_or_else(|| odd("a repository"))?;
        if found.id != place.id {
            return Err(Failure::Refused(format!("{} is another repository now", place.path)));
        }
        self.ask_own(&token).await?;
        Ok(Visit { github: self, repository, place, described, path: found.path, token })
    }

    /// What is there under the path that we know, when it still is the same repository; else whatever has
    /// its number: it was renamed, and perhaps another took its name.
    async fn described(&self, place: &Place, token: &Token) -> Result<Value, Failure> {
        let by_path = self.ask(token, Verb::Get, &format!("/repos/{}", place.path), None).await;
        match by_path {
            Ok(answer) if shape::number(&answer.body, "/id") == Some(place.id) => Ok(answer.body),
            Ok(_) | Err(Failure::Missing(_)) => {
                let by_number = format!("/repositories/{}", place.id);
                Ok(self.ask(token, Verb::Get, &by_number, None).await?.body)
            }
            Err(failure) => Err(failure),
        }
    }
}

impl Visit<'_> {
    /// The account by which this server does what it does; some have none before they did anything.
    pub(crate) fn own(&self) -> Option<&Own> {
        self.github.known_own()
    }

    /// What is at a path below the repository.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.github.ask(&self.token, Verb::Get, &self.below(path), None).await?.body)
    }

    /// The same; `None` when there is nothing.
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(Failure::Missing(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// A list below the repository, whole.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        self.github.list(&self.token, &self.below(path), "").await
    }

    /// The same, where it stands inside of the answer.
    pub(crate) async fn list_at(&self, path: &str, at: &str) -> Result<Vec<Value>, Failure> {
        self.github.list(&self.token, &self.below(path), at).await
    }

    /// The first things of a list, newest first, while `wanted` says so. A repository may have issues or
    /// releases switched off: then it has no such list.
    pub(crate) async fn list_while(
        &self,
        path: &str,
        most_pages: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut next = Some(self.below(path));
        for _ in 0..most_pages {
            let Some(path) = next else { break };
            let answer = match self.github.ask(&self.token, Verb::Get, &path, None).await {
                Ok(answer) => answer,
                Err(Failure::Missing(_)) => break,
                Err(failure) => return Err(failure),
            };
            next = answer.next_page(self.github.client.api_url());
            let Value::Array(page) = answer.body else { return Err(odd("a list")) };
            for item in page {
                if !wanted(&item) {
                    return Ok(items);
                }
                items.push(item);
            }
        }
        Ok(items)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let made = self.write(Verb::Post, path, Some(body)).await?;
        self.github.learn_own(&made);
        Ok(made)
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.write(Verb::Patch, path, Some(body)).await
    }

    /// Removes what is at a path; what is gone already is as good.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        match self.write(Verb::Delete, path, None).await {
            Ok(_) | Err(Failure::Missing(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn write(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.github.may_write(&self.token, self.place.id)?;
        Ok(self.github.ask(&self.token, verb, &self.below(path), body).await?.body)
    }

    fn below(&self, path: &str) -> String {
        format!("/repos/{}{path}", self.path)
    }
}
