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
    asked: Rc<RefCell<Vec<String>>>,
}

impl Outbound {
    /// A URL without a script refuses the connection.
    pub async fn get(&self, request: OutboundRequest) -> Result<OutboundReply, Error> {
        self.asked.borrow_mut().push(request.url.clone());
        let script = self.scripts.borrow().get(&request.url).cloned();
        Ok(match script.unwrap_or(Script::Refuses) {
            Script::Status(status, latency_ms) => {
                OutboundReply::Answered { status, body: Vec::new(), truncated: false, latency_ms }
            }
            Script::Body(status, mut body, latency_ms) => {
                let truncated = body.len() > request.max_body_bytes;
                body.truncate(request.max_body_bytes);
                OutboundReply::Answered { status, body, truncated, latency_ms }
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
        self.asked.borrow().clone()
    }
}
