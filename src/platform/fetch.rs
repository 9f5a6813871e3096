//! One outbound GET and what became of it.

/// A GET with its limits: each has a deadline, follows no redirect, caches
/// nothing and reads at most `max_body_bytes` of the reply, then cancels it.
#[derive(Clone, Debug)]
pub struct OutboundRequest {
    pub url: String,
    pub accept: &'static str,
    pub deadline_ms: u32,
    /// 0: the body is not read at all.
    pub max_body_bytes: usize,
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
    },
    /// No response headers (or no whole body) within the deadline.
    TimedOut,
    /// No HTTP answer: name, connection or TLS failure, or a cut connection.
    Failed { reason: String },
}
