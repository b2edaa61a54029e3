//! An answer on its way from a provider to a program: piece by piece, as it comes.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::attempt::Pieces;
use super::book::OpenCall;
use super::refusal::{Body, BrokeOff, Refusal};
use crate::call::Deadlines;
use crate::class::{Class, Fault};
use crate::config::Dialect;
use crate::health::{Asking, Measured};
use crate::local::Slot;

/// What holds an answer together. Dropped, it breaks off at both ends, and the call is settled.
pub(super) struct Relay {
    pub(super) from: Pieces,
    pub(super) call: OpenCall,
    pub(super) deadlines: Deadlines,
    pub(super) dialect: Dialect,
    pub(super) is_stream: bool,
    pub(super) target: String,
    pub(super) _slot: Option<Slot>,
    pub(super) _place: OwnedSemaphorePermit,
    /// Who is told how the model does.
    asking: Option<Asking>,
    asked_at: Instant,
    first_at: Option<Instant>,
    /// The beginning of a line whose end has not come: a stream that breaks must not end with it.
    line: BytesMut,
}

/// What a relay is made of.
pub(super) struct Parts {
    pub(super) call: OpenCall,
    pub(super) deadlines: Deadlines,
    pub(super) dialect: Dialect,
    pub(super) target: String,
    pub(super) slot: Option<Slot>,
    pub(super) asking: Option<Asking>,
    /// When it was asked.
    pub(super) begun: Instant,
}

impl Relay {
    pub(super) fn body(parts: Parts, from: Pieces, is_stream: bool, place: OwnedSemaphorePermit) -> Body {
        let Parts { call, deadlines, dialect, target, slot, asking, begun } = parts;
        call.begins(is_stream);
        let relay = Self {
            from,
            call,
            deadlines,
            dialect,
            is_stream,
            target,
            _slot: slot,
            _place: place,
            asking,
            asked_at: begun,
            first_at: None,
            line: BytesMut::new(),
        };
        let frames = futures::stream::unfold(Some(relay), |relay| async move { relay?.next().await });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn next(mut self) -> Option<(Result<Frame<Bytes>, BrokeOff>, Option<Self>)> {
        loop {
            let next = self.from.next();
            let next = match self.first_at {
                Some(_) => self.deadlines.next(next).await,
                None => self.deadlines.first(next).await,
            };
            self.first_at.get_or_insert_with(Instant::now);
            let piece = match next {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(_))) => return Some(self.breaks("its answer broke off: the connection was cut")),
                Ok(None) => {
                    self.ends();
                    let rest = self.line.split().freeze();
                    return (!rest.is_empty()).then(|| (Ok(Frame::data(rest)), None));
                }
                Err(fault) => return Some(self.breaks(&fault.message)),
            };
            if self.call.passes(&piece).is_err() {
                return Some(self.breaks("sent an event that is too large"));
            }
            let whole = if self.is_stream { self.whole_lines(piece) } else { piece };
            if !whole.is_empty() {
                return Some((Ok(Frame::data(whole)), Some(self)));
            }
        }
    }

    /// What can go on: everything up to the last end of a line.
    fn whole_lines(&mut self, mut piece: Bytes) -> Bytes {
        let Some(end) = piece.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.line.extend_from_slice(&piece);
            return Bytes::new();
        };
        let rest = piece.split_off(end + 1);
        if self.line.is_empty() {
            self.line.extend_from_slice(&rest);
            return piece;
        }
        self.line.extend_from_slice(&piece);
        let whole = self.line.split().freeze();
        self.line.extend_from_slice(&rest);
        whole
    }

    /// The answer is whole: what it says of the next one's time and cost is noted.
    fn ends(&mut self) {
        let Some(asking) = self.asking.take() else { return };
        let measured = self.call.used().zip(self.first_at).map(|(used, first)| Measured {
            first: first - self.asked_at,
            whole: self.asked_at.elapsed(),
            read: used.input.saturating_add(used.cache_read).saturating_add(used.cache_write),
            cached: used.cache_read,
            written: used.output,
        });
        asking.answered(measured);
    }

    /// The end of an answer that broke: a stream says so in its own words, anything else is cut off.
    fn breaks(mut self, why: &str) -> (Result<Frame<Bytes>, BrokeOff>, Option<Self>) {
        tracing::warn!(model = %self.target, "the answer of {} broke off", self.target);
        self.call.failed(Class::StreamBroken);
        if let Some(asking) = self.asking.take() {
            asking.failed(&Fault::new(Class::StreamBroken, why));
        }
        let refusal = Refusal::upstream(format!("{} {why}", self.target));
        match self.is_stream {
            true => (Ok(Frame::data(refusal.event(self.dialect))), None),
            false => (Err(BrokeOff(refusal.message)), None),
        }
    }
}
