//! The one mapping from errors to status codes, and RFC 9457 problem details.

use super::Reply;
use crate::domain::validation::FieldError;
use crate::platform;
use ::http::StatusCode;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($name:ident $status:literal $code:literal $title:literal;)*) => {
        /// Every error a client can see. The code is stable and public.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($name),* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            pub const fn status(self) -> u16 {
                match self { $(Code::$name => $status),* }
            }

            pub const fn code(self) -> &'static str {
                match self { $(Code::$name => $code),* }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Code::$name => $title),* }
            }
        }
    };
}

codes! {
    MalformedRequest 400 "malformed_request" "The request cannot be read";
    MalformedJson 400 "malformed_json" "The body is not JSON";
    Unauthenticated 401 "unauthenticated" "A valid access token is needed";
    InvalidToken 401 "invalid_token" "The access token is not valid";
    InvalidCredentials 401 "invalid_credentials" "Login refused";
    InvalidRefreshToken 401 "invalid_refresh_token" "The refresh token is not valid";
    Forbidden 403 "forbidden" "This role may not do that";
    NotFound 404 "not_found" "There is no such resource";
    MethodNotAllowed 405 "method_not_allowed" "The resource does not know this method";
    Conflict 409 "conflict" "The resource exists or has changed";
    PreconditionFailed 412 "precondition_failed" "The resource is not as the request expects";
    PreconditionRequired 428 "precondition_required" "The request must say which state it changes";
    PayloadTooLarge 413 "payload_too_large" "The body is too large";
    UnsupportedMediaType 415 "unsupported_media_type" "The body has the wrong media type";
    Invalid 422 "validation_failed" "The body is not valid";
    IdempotencyMismatch 422 "idempotency_key_reused" "The key was used with another body";
    RateLimited 429 "rate_limited" "Too many requests in a minute";
    QuotaExceeded 429 "quota_exceeded" "The quota of the day is used up";
    ClientBlocked 429 "client_blocked" "Blocked for ignoring Retry-After";
    Internal 500 "internal_error" "Something broke on our side";
    Unavailable 503 "unavailable" "A part of the service cannot be reached";
    NotConfigured 503 "not_configured" "The service is not configured for this";
}

/// An error on its way to the client: public code and detail, private cause.
#[derive(Debug)]
pub struct Problem {
    pub code: Code,
    pub detail: String,
    pub errors: Vec<FieldError>,
    pub headers: Vec<(&'static str, String)>,
    /// Logged once at the boundary, never sent.
    pub cause: Option<Box<str>>,
    /// Of a 429: the name of its policy, as `RateLimit-Policy` has it.
    pub violated_policy: Option<&'static str>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            cause: None,
            violated_policy: None,
        }
    }

    /// 422 with one pointer for each thing that is wrong.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", pointer_or_body(&one.pointer), one.detail),
            many => format!("{} fields are not valid; see errors", many.len()),
        };
        Self { errors, ..Self::new(Code::Invalid, detail) }
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// Opaque: the client learns nothing but the request id.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into().into_boxed_str()),
            ..Self::new(Code::Internal, "the cause is in the log under this request id")
        }
    }

    pub fn unavailable(cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into().into_boxed_str()),
            ..Self::new(Code::Unavailable, "a part of the service did not answer; try again")
        }
        .with_header("retry-after", "2")
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// `instance` is the path that was asked.
    pub fn into_reply(self, instance: &str, request_id: &str) -> Reply {
        let errors = self
            .errors
            .into_iter()
            .map(|error| ProblemField {
                pointer: format!("#{}", encoded(&error.pointer)),
                detail: error.detail,
            })
            .collect();
        let body = ProblemOut {
            type_: type_uri(self.code),
            title: self.code.title().to_owned(),
            status: self.code.status(),
            detail: self.detail,
            instance: encoded_path(instance),
            code: self.code.code().to_owned(),
            request_id: request_id.to_owned(),
            errors,
            violated_policies: self.violated_policy.iter().map(|&name| name.to_owned()).collect(),
        };
        let status = StatusCode::from_u16(self.code.status());
        let mut reply = Reply::json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &body);
        reply.set("content-type", "application/problem+json");
        if reply.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, 15.5.2: never without; a handler may say it better.
            reply.set("www-authenticate", "Bearer");
        }
        for (name, value) in self.headers {
            reply.set(name, value);
        }
        reply
    }
}

/// Of draft-ietf-httpapi-ratelimit-headers-11.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// Text as a part of a URI (RFC 3986): what may not stand there is
/// percent-encoded.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The same of a path, which comes encoded, though not always enough: the
/// rules of browsers leave `|` and a stray `%` as they are.
fn encoded_path(path: &str) -> String {
    let mut parts = path.split('%');
    let mut whole = encoded(parts.next().unwrap_or_default());
    for part in parts {
        let is_escape = part.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
        whole.push_str(if is_escape { "%" } else { "%25" });
        whole.push_str(&encoded(part));
    }
    whole
}

fn type_uri(code: Code) -> String {
    if code.status() == 429 {
        return QUOTA_EXCEEDED.to_owned();
    }
    format!("urn:problem-type:devskyy:{}", code.code())
}

fn pointer_or_body(pointer: &str) -> &str {
    if pointer.is_empty() { "body" } else { pointer }
}

/// A dependency that failed in passing is a 503 the client may repeat; any
/// other failure of the platform is a defect of ours.
impl From<platform::Error> for Problem {
    fn from(error: platform::Error) -> Self {
        match error.kind {
            platform::ErrorKind::Timeout | platform::ErrorKind::Unavailable => {
                Self::unavailable(error.to_string())
            }
            platform::ErrorKind::Constraint | platform::ErrorKind::Misuse => {
                Self::internal(error.to_string())
            }
        }
    }
}

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Problem"))]
pub struct ProblemOut {
    #[serde(rename = "type")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("format" = "uri-reference")))]
    pub type_: String,
    pub title: String,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 400, max = 599)))]
    pub status: u16,
    pub detail: String,
    /// The path that was asked.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("format" = "uri-reference"), regex(pattern = "^/")))]
    pub instance: String,
    /// Stable, for programs.
    pub code: String,
    /// Quote it when you report a problem.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = "^[A-Za-z0-9._-]{8,128}$")))]
    pub request_id: String,
    /// What is wrong and where, one entry a field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemField>,
    /// Of a 429: the policies that the request is over, as `RateLimit-Policy`
    /// names them, or `block`.
    #[serde(rename = "violated-policies", default, skip_serializing_if = "Vec::is_empty")]
    pub violated_policies: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ProblemField {
    /// JSON Pointer (RFC 6901) in fragment form.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("format" = "uri-reference"), regex(pattern = "^#(/.*)?$")))]
    pub pointer: String,
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(problem: Problem, instance: &str) -> (Reply, ProblemOut) {
        let reply = problem.into_reply(instance, "01a20567-ba0a-7ade");
        let body = serde_json::from_slice(&reply.body).unwrap();
        (reply, body)
    }

    #[test]
    fn a_pointer_is_a_uri_fragment() {
        for (pointer, expected) in [
            ("", "#"),
            ("/items/0/a~1b", "#/items/0/a~1b"),
            ("/a b", "#/a%20b"),
            ("/50%", "#/50%25"),
            ("/é\"<>", "#/%C3%A9%22%3C%3E"),
        ] {
            let problem = Problem::invalid(vec![FieldError::new(pointer, "is wrong")]);
            let (_, body) = body(problem, "/");
            assert_eq!(body.errors[0].pointer, expected, "{pointer}");
        }
    }

    #[test]
    fn the_instance_is_a_uri_reference() {
        for (path, expected) in [
            ("/api/v1/x", "/api/v1/x"),
            ("/a%20b/%C3%A9", "/a%20b/%C3%A9"),
            ("/50%/%zz/%4", "/50%25/%25zz/%254"),
            ("/a|b[c]^`{d}", "/a%7Cb%5Bc%5D%5E%60%7Bd%7D"),
        ] {
            assert_eq!(body(Problem::not_found("nothing"), path).1.instance, expected, "{path}");
        }
    }

    #[test]
    fn every_401_says_how_to_authenticate() {
        for code in Code::ALL.iter().filter(|code| code.status() == 401) {
            let (reply, _) = body(Problem::new(*code, "who are you"), "/");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{code:?}");
        }
        let own = Problem::new(Code::InvalidToken, "").with_header("www-authenticate", "Bearer x");
        assert_eq!(body(own, "/").0.header("www-authenticate"), Some("Bearer x"));
    }
}
