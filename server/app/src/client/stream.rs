//! Live streams of a server. One that breaks off is taken up again after the last event that came.

use std::time::Duration;

use anyhow::anyhow;
use reqwest::{Method, Response, Url, header};

use super::events::{Event, Parser};
use super::{Client, Refused};
use crate::exit::CommandError;

/// How often in a row a stream may break off without an event.
const BREAKS: u32 = 8;
/// The wait before the first new try, and the longest one.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A live stream. It is over after an event `end`.
#[derive(Debug)]
pub(crate) struct Streamed<'c> {
    client: &'c Client,
    url: Url,
    last: Option<String>,
    open: Option<(Response, Parser)>,
    breaks: u32,
    ended: bool,
}

impl Client {
    /// Follows what happens at a path below `/api/v1`.
    pub(crate) fn follow(&self, path: &[&str]) -> Streamed<'_> {
        Streamed { client: self, url: self.url(path, &[]), last: None, open: None, breaks: 0, ended: false }
    }
}

impl Streamed<'_> {
    /// The next event; `None` after the end.
    ///
    /// # Errors
    /// When the server refuses, or does not come back.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, CommandError> {
        while !self.ended {
            match self.step().await {
                Ok(Some(event)) => {
                    self.breaks = 0;
                    self.ended = event.name == "end";
                    self.last.clone_from(&event.id);
                    return Ok(Some(event));
                }
                Ok(None) => {}
                Err(refused) => self.pause(refused).await?,
            }
        }
        Ok(None)
    }

    /// Opens the stream, or takes one more piece from it.
    async fn step(&mut self) -> Result<Option<Event>, Refused> {
        let Some((response, parser)) = &mut self.open else {
            let mut request =
                self.client.request(&Method::GET, &self.url).header(header::ACCEPT, "text/event-stream");
            if let Some(last) = &self.last {
                request = request.header("last-event-id", last);
            }
            let response = self.client.send(request).await?;
            let kind =
                response.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase());
            if !kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")) {
                return Err(Refused::finally(self.client.no_spellbook()));
            }
            // An event without an id still goes on after the one before it.
            self.open = Some((response, Parser::after(self.last.clone())));
            return Ok(None);
        };
        if let Some(event) = parser.next() {
            return Ok(Some(event));
        }
        let piece = response.chunk().await;
        let broken = |error| Refused { error: self.client.broken(error), again: Some(PAUSE) };
        match piece {
            Ok(Some(bytes)) => {
                parser.feed(&bytes).map_err(|error| Refused::finally(self.client.broken(error.into())))?;
                Ok(None)
            }
            Ok(None) => Err(broken(anyhow!("the stream ended before its time"))),
            Err(error) => Err(broken(error.without_url().into())),
        }
    }

    /// Waits before the next try, or gives up.
    async fn pause(&mut self, refused: Refused) -> Result<(), CommandError> {
        self.open = None;
        self.breaks += 1;
        match refused.again {
            Some(wait) if self.breaks < BREAKS => {
                let pause = PAUSE * 2_u32.pow(self.breaks - 1);
                tokio::time::sleep(pause.min(LONGEST_PAUSE).max(wait)).await;
                Ok(())
            }
            _ => Err(refused.error),
        }
    }
}
