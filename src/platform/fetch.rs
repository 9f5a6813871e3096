//! One outbound call and what became of it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundMethod {
    Get,
    Post,
}

/// A call with its limits: each has a deadline, follows no redirect, caches
/// nothing and reads at most `max_body_bytes` of the reply, then cancels it.
#[derive(Clone, Debug)]
pub struct OutboundRequest {
    pub method: OutboundMethod,
    pub url: String,
    /// Names in lower case. The platform adds a `user-agent` of its own.
    pub headers: Vec<(&'static str, String)>,
    /// Sent with a POST.
    pub body: Vec<u8>,
    pub deadline_ms: u32,
    /// 0: the body of the reply is not read at all.
    pub max_body_bytes: usize,
}

impl OutboundRequest {
    /// A GET of which nothing but the status is wanted.
    pub fn get(url: String, deadline_ms: u32) -> Self {
        Self {
            method: OutboundMethod::Get,
            url,
            headers: vec![("accept", "*/*".to_owned())],
            body: Vec::new(),
            deadline_ms,
            max_body_bytes: 0,
        }
    }
}

#[derive(Clone, Debug)]
pub enum OutboundReply {
    /// The other side answered in HTTP.
    Answered {
        status: u16,
        /// At most `max_body_bytes`.
        body: Vec<u8>,
        /// The body was longer than what was read.
        truncated: bool,
        /// From the call to the response headers, in milliseconds.
        latency_ms: f64,
        /// The field `Retry-After`, as it was sent.
        retry_after: Option<String>,
    },
    /// No response headers (or no whole body) within the deadline.
    TimedOut,
    /// No HTTP answer: name, connection or TLS failure, or a cut connection.
    Failed { reason: String },
}
