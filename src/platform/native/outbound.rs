//! Outbound calls by script: a test says what each URL answers.

use crate::platform::Error;
use crate::platform::fetch::{OutboundReply, OutboundRequest};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// What a URL answers, each time it is asked.
#[derive(Clone, Debug)]
pub enum Script {
    Status(u16, f64),
    Body(u16, Vec<u8>, f64),
    Hangs,
    Refuses,
}

#[derive(Clone, Default)]
pub struct Outbound {
    scripts: Rc<RefCell<HashMap<String, Script>>>,
    sent: Rc<RefCell<Vec<OutboundRequest>>>,
}

impl Outbound {
    /// A URL without a script refuses the connection.
    pub async fn send(&self, request: OutboundRequest) -> Result<OutboundReply, Error> {
        self.sent.borrow_mut().push(request.clone());
        let script = self.scripts.borrow().get(&request.url).cloned();
        Ok(match script.unwrap_or(Script::Refuses) {
            Script::Status(status, latency_ms) => answered(status, Vec::new(), false, latency_ms),
            Script::Body(status, mut body, latency_ms) => {
                let truncated = body.len() > request.max_body_bytes;
                body.truncate(request.max_body_bytes);
                answered(status, body, truncated, latency_ms)
            }
            Script::Hangs => OutboundReply::TimedOut,
            Script::Refuses => OutboundReply::Failed { reason: "connection refused".to_owned() },
        })
    }

    pub fn script(&self, url: &str, script: Script) {
        self.scripts.borrow_mut().insert(url.to_owned(), script);
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

fn answered(status: u16, body: Vec<u8>, truncated: bool, latency_ms: f64) -> OutboundReply {
    OutboundReply::Answered { status, body, truncated, latency_ms, retry_after: None }
}
