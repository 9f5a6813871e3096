//! Outbound calls. The runtime's `fetch` waits for ever by itself, follows
//! redirects, and leaves a body open until somebody reads it.

use super::js;
use crate::platform::fetch::{OutboundMethod, OutboundReply, OutboundRequest};
use crate::platform::{Error, ErrorKind};
use js_sys::{Date, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{AbortController, AbortSignal, RequestCache, RequestInit, RequestRedirect};

const USER_AGENT: &str = concat!("devskyy-orchestration/", env!("CARGO_PKG_VERSION"));

/// A reason is for people and goes into rows and log lines.
const MAX_REASON_CHARS: usize = 200;

#[derive(Clone)]
pub struct Outbound(());

impl Outbound {
    pub(super) fn new() -> Self {
        Self(())
    }

    pub async fn send(&self, request: OutboundRequest) -> Result<OutboundReply, Error> {
        let misuse = |e: JsValue| Error::new(ErrorKind::Misuse, js::text(&e));
        let controller = AbortController::new().map_err(misuse)?;
        let init = init(&request, &controller.signal()).map_err(misuse)?;
        match js::within(request.deadline_ms, exchange(&request, &init)).await {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(thrown)) => {
                controller.abort();
                Ok(OutboundReply::Failed { reason: reason(&js::text(&thrown)) })
            }
            None => {
                controller.abort();
                Ok(OutboundReply::TimedOut)
            }
        }
    }
}

fn init(request: &OutboundRequest, signal: &AbortSignal) -> Result<RequestInit, JsValue> {
    let headers = web_sys::Headers::new()?;
    for (name, value) in &request.headers {
        headers.set(name, value)?;
    }
    headers.set("user-agent", USER_AGENT)?;
    let init = RequestInit::new();
    match request.method {
        OutboundMethod::Get => init.set_method("GET"),
        OutboundMethod::Post => {
            init.set_method("POST");
            init.set_body(&Uint8Array::from(request.body.as_slice()));
        }
    }
    init.set_headers(&headers);
    init.set_redirect(RequestRedirect::Manual);
    init.set_cache(RequestCache::NoStore);
    init.set_signal(Some(signal));
    Ok(init)
}

async fn exchange(request: &OutboundRequest, init: &RequestInit) -> Result<OutboundReply, JsValue> {
    // The runtime's clock moves on I/O only, which is just what is timed here.
    let started_ms = Date::now();
    let response: web_sys::Response =
        super::bindings::fetch(&request.url, init)?.await?.unchecked_into();
    let latency_ms = Date::now() - started_ms;
    let status = response.status();
    let retry_after = response.headers().get("retry-after")?;
    let (body, truncated) = match response.body() {
        Some(body) if request.max_body_bytes > 0 => {
            let read = js::read_body(body, request.max_body_bytes).await?;
            (read.bytes, read.truncated)
        }
        unread => {
            let truncated = unread.is_some();
            js::discard_body(unread);
            (Vec::new(), truncated)
        }
    };
    Ok(OutboundReply::Answered { status, body, truncated, latency_ms, retry_after })
}

/// One short line. The runtime ends some messages with a reference that is
/// new every time; without it, the same failure reads the same.
fn reason(message: &str) -> String {
    let message = message.split_once("; reference = ").map_or(message, |(head, _)| head);
    let words: Vec<&str> = message
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    let line: String = words.join(" ").chars().take(MAX_REASON_CHARS).collect();
    if line.is_empty() { "no reason given".to_owned() } else { line }
}
