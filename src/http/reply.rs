//! What goes back: status, headers, whole body.

use ::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;

/// Headers of every reply (OWASP Secure Headers). The adapter turns each of
/// these lists into one object once per isolate, which is far cheaper than
/// setting fifteen fields a request.
macro_rules! constant_headers {
    ($($name:literal: $value:expr),* $(,)?) => {
        &[
            ("strict-transport-security", "max-age=63072000; includeSubDomains"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-embedder-policy", "require-corp"),
            ("cross-origin-resource-policy", "same-origin"),
            ("permissions-policy", PERMISSIONS_POLICY),
            ("x-permitted-cross-domain-policies", "none"),
            ("x-dns-prefetch-control", "off"),
            $(($name, $value)),*
        ]
    };
}

const PERMISSIONS_POLICY: &str = "accelerometer=(), autoplay=(), camera=(), \
     clipboard-read=(), clipboard-write=(), cross-origin-isolated=(), display-capture=(), \
     encrypted-media=(), fullscreen=(), geolocation=(), gyroscope=(), hid=(), \
     idle-detection=(), magnetometer=(), microphone=(), midi=(), payment=(), \
     picture-in-picture=(), publickey-credentials-get=(), screen-wake-lock=(), serial=(), \
     usb=(), xr-spatial-tracking=()";

const NO_CONTENT_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

pub type ConstantHeaders = &'static [(&'static str, &'static str)];

/// Replies of the API: nothing may keep them.
pub static API_HEADERS: ConstantHeaders = constant_headers! {
    "content-security-policy": NO_CONTENT_POLICY,
    "cache-control": "no-store",
};

/// Public documents that a cache may keep for five minutes.
pub static DOCUMENT_HEADERS: ConstantHeaders = constant_headers! {
    "content-security-policy": NO_CONTENT_POLICY,
    "cache-control": "public, max-age=300",
};

/// The documentation page: scripts, styles and data from this origin alone.
/// Its viewer sets style attributes, hence `unsafe-inline` for styles only.
pub static PAGE_HEADERS: ConstantHeaders = constant_headers! {
    "content-security-policy": "default-src 'none'; script-src 'self'; \
         style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "public, max-age=300",
};

/// So many requests in so many seconds, under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub name: &'static str,
    pub quota: u32,
    pub window_s: i64,
}

impl Policy {
    /// Of draft-ietf-httpapi-ratelimit-headers-11, and of the older trio.
    pub fn fields(&self) -> [(&'static str, String); 2] {
        let Self { name, quota, window_s } = self;
        [
            ("ratelimit-policy", format!("\"{name}\";q={quota};w={window_s}")),
            ("x-ratelimit-limit", quota.to_string()),
        ]
    }
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    /// One of the lists above.
    pub constant: ConstantHeaders,
    /// The limit that the request drew from. Its two fields are the same for
    /// all requests of a class, so the adapter sets them like constant ones.
    pub policy: Option<Policy>,
    /// Fields of this reply alone; a name may come more than once.
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Reply {
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            constant: API_HEADERS,
            policy: None,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub fn bytes(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut reply = Self { body: body.into(), ..Self::empty(status) };
        reply.set("content-type", content_type);
        reply
    }

    /// Wire types hold nothing that JSON cannot write, so serialising cannot
    /// fail; were it to, the client gets an empty body and not half of one.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self::bytes(status, "application/json", body)
    }

    pub fn ok(value: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }

    pub fn with_constant(mut self, constant: ConstantHeaders) -> Self {
        self.constant = constant;
        self
    }

    /// Sets a field, in place of an earlier one of the same name.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.retain(|(existing, _)| *existing != name);
        self.headers.push((name, value.into()));
    }

    /// The field as it will be sent (those of the policy aside).
    pub fn header(&self, name: &str) -> Option<&str> {
        let own = self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        own.or_else(|| self.constant.iter().find(|(n, _)| *n == name).map(|(_, value)| *value))
    }
}
