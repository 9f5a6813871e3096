//! Outbound calls by script: a test says what each URL answers.

use crate::platform::Error;
use crate::platform::fetch::{OutboundReply, OutboundRequest};
use futures::future::poll_fn;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// What a URL answers, each time it is asked.
#[derive(Clone, Debug)]
pub enum Script {
    Status(u16, f64),
    Body(u16, Vec<u8>, f64),
    /// A status with the field `Retry-After`.
    RetryAfter(u16, String),
    /// One after the other; the last one stays.
    Sequence(Vec<Script>),
    Hangs,
    Refuses,
}

impl Script {
    /// What this call is answered. (An empty sequence refuses.)
    fn next(&mut self) -> Self {
        match self {
            Self::Sequence(steps) if steps.len() > 1 => steps.remove(0),
            Self::Sequence(steps) => steps.first().cloned().unwrap_or(Self::Refuses),
            other => other.clone(),
        }
    }
}

#[derive(Clone, Default)]
pub struct Outbound {
    scripts: Rc<RefCell<HashMap<String, Script>>>,
    sent: Rc<RefCell<Vec<OutboundRequest>>>,
    /// Whom to wake when calls are no longer held.
    held: Rc<RefCell<Option<Vec<Waker>>>>,
}

impl Outbound {
    /// A URL without a script refuses the connection.
    pub async fn send(&self, request: OutboundRequest) -> Result<OutboundReply, Error> {
        self.sent.borrow_mut().push(request.clone());
        poll_fn(|context| match &mut *self.held.borrow_mut() {
            Some(waiting) => {
                waiting.push(context.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
        let script = self.scripts.borrow_mut().get_mut(&request.url).map(Script::next);
        Ok(match script.unwrap_or(Script::Refuses) {
            Script::Status(status, latency_ms) => {
                answered(status, Vec::new(), false, latency_ms, None)
            }
            Script::Body(status, mut body, latency_ms) => {
                let truncated = body.len() > request.max_body_bytes;
                body.truncate(request.max_body_bytes);
                answered(status, body, truncated, latency_ms, None)
            }
            Script::RetryAfter(status, after) => {
                answered(status, Vec::new(), false, 1.0, Some(after))
            }
            Script::Hangs => OutboundReply::TimedOut,
            Script::Refuses | Script::Sequence(_) => {
                OutboundReply::Failed { reason: "connection refused".to_owned() }
            }
        })
    }

    pub fn script(&self, url: &str, script: Script) {
        self.scripts.borrow_mut().insert(url.to_owned(), script);
    }

    /// While true, calls go out and no answer comes, not even that of the
    /// deadline: for whoever has something happen in between.
    pub fn hold(&self, held: bool) {
        let waiting = self.held.replace(held.then(Vec::new));
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Every URL asked so far, in order.
    pub fn asked(&self) -> Vec<String> {
        self.sent.borrow().iter().map(|request| request.url.clone()).collect()
    }

    /// Every call made so far, in order.
    pub fn sent(&self) -> Vec<OutboundRequest> {
        self.sent.borrow().clone()
    }
}

fn answered(
    status: u16,
    body: Vec<u8>,
    truncated: bool,
    latency_ms: f64,
    retry_after: Option<String>,
) -> OutboundReply {
    OutboundReply::Answered { status, body, truncated, latency_ms, retry_after }
}
