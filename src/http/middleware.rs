//! The ordered stack every request goes through:
//!
//! 1. request id and trace; 2. route, or 404 / 405 / OPTIONS; 3. who is
//!    calling, and may he; 4. the handler; 5. headers of every reply;
//! 6. one log line.

use super::app::{App, Cx, Endpoint, Matched};
use super::body::{Body, Request};
use super::problem::{Code, Problem};
use super::reply::Reply;
use super::route::{Access, BodyKind};
use crate::auth::caller::Caller;
use crate::auth::permission::Permission;
use crate::domain::time::Timestamp;
use crate::log::{Event, Level};
use ::http::{Method, StatusCode};
use std::rc::Rc;

/// Replies a browser of an allowed origin may read.
const EXPOSED_HEADERS: &str = "RateLimit, RateLimit-Policy, Retry-After, ETag, X-Request-Id, \
     X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset";
const ALLOWED_REQUEST_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id, \
     Traceparent";
const PREFLIGHT_MAX_AGE_S: &str = "600";

/// An access token over this many bytes is refused unread.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

impl App {
    /// Answers one request. Never fails: what goes wrong becomes a problem.
    pub async fn handle(self: &Rc<Self>, request: Request) -> Reply {
        let now = Timestamp::from_millis(self.platform.clock.now_ms());
        let trace = Trace::of(self, &request, now);
        let origin = request.headers.get("origin");
        let method = request.method.clone();
        let path = request.path.clone();

        let mut who = None;
        let (route, outcome) = match self.route(&method, &path) {
            Matched::Found(route, params) => {
                let outcome = self.run(route, params, request, now, &trace, &mut who).await;
                (Some(route), outcome)
            }
            Matched::OtherMethods(routes) if method == Method::OPTIONS => {
                (None, Ok(self.options(&routes, &request, origin.as_deref())))
            }
            Matched::OtherMethods(routes) => (None, Err(wrong_method(&method, &routes))),
            Matched::Nothing => {
                (None, Err(Problem::not_found("no route with this path; GET /docs lists them")))
            }
        };

        let mut failure = None;
        let mut reply = outcome.unwrap_or_else(|problem| {
            failure = Some((problem.code.code(), problem.cause.clone()));
            problem.into_reply(&path, &trace.request_id)
        });
        if method == Method::HEAD {
            reply.set("content-length", reply.body.len().to_string());
            reply.body = bytes::Bytes::new();
        }
        self.finish(&mut reply, &trace, origin.as_deref());
        self.log_request(now, &method, route, &reply, &trace, who.as_ref(), failure);
        reply
    }

    async fn run(
        self: &Rc<Self>,
        route: &'static Endpoint,
        params: Vec<(String, String)>,
        request: Request,
        now: Timestamp,
        trace: &Trace,
        who: &mut Option<Caller>,
    ) -> Result<Reply, Problem> {
        let caller = self.authorize(route, &request, now).await?;
        who.clone_from(&caller);
        if route.body != BodyKind::None && matches!(request.body, Body::TooLarge) {
            request.bytes()?;
        }
        let request_id = trace.request_id.clone();
        let cx = Cx { app: Rc::clone(self), request, route, params, caller, now, request_id };
        (route.handler)(cx).await
    }

    /// 401: who are you; 403: you may not.
    async fn authorize(
        &self,
        route: &Endpoint,
        request: &Request,
        now: Timestamp,
    ) -> Result<Option<Caller>, Problem> {
        let (required, needed): (bool, Option<Permission>) = match route.access {
            Access::Public => return Ok(None),
            Access::PublicHealth(permission) => (!self.config.public_health, Some(permission)),
            Access::Authenticated => (true, None),
            Access::Requires(permission) => (true, Some(permission)),
        };
        let Some(header) = request.headers.get("authorization") else {
            return if required {
                Err(Problem::new(
                    Code::Unauthenticated,
                    "present an access token: Authorization: Bearer …",
                )
                .with_header("www-authenticate", "Bearer"))
            } else {
                Ok(None)
            };
        };
        let caller = self.authenticate(&header, now)?;
        if self.is_revoked(&caller, route, now).await? {
            return Err(invalid_token("the token was withdrawn; log in again"));
        }
        match needed {
            Some(permission) if !caller.may(permission) => Err(Problem::new(
                Code::Forbidden,
                format!("the role {} lacks {}", caller.role().name(), permission.name()),
            )),
            _ => Ok(Some(caller)),
        }
    }

    fn authenticate(&self, header: &str, now: Timestamp) -> Result<Caller, Problem> {
        let token = header
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .filter(|token| !token.is_empty())
            .ok_or_else(|| invalid_token("expected Authorization: Bearer <access token>"))?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid_token("the token is not valid or has expired"));
        }
        self.verifier.verify(token, now).map_err(|reason| Problem {
            cause: Some(format!("token refused: {reason:?}")),
            ..invalid_token("the token is not valid or has expired")
        })
    }

    /// Whether the tenant withdrew this caller's tokens (a disabled user, a
    /// changed role or password). The board carries the list, so this costs
    /// no hop of its own where the board is warm. With the board out of reach
    /// a signed token still reads, and does not write.
    async fn is_revoked(
        &self,
        caller: &Caller,
        route: &Endpoint,
        now: Timestamp,
    ) -> Result<bool, Problem> {
        match self.boards.snapshot(&self.platform, caller.tenant_id(), now).await {
            Ok(board) => Ok(board.is_revoked(caller.user_id(), caller.issued_at())),
            Err(_) if route.method == Method::GET => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn options(&self, routes: &[&Endpoint], request: &Request, origin: Option<&str>) -> Reply {
        let mut reply = Reply::empty(StatusCode::NO_CONTENT);
        let allow = allowed_methods(routes);
        let preflight = request.headers.get("access-control-request-method").is_some();
        if preflight && self.allows_origin(origin) {
            reply.set("access-control-allow-methods", allow.as_str());
            reply.set("access-control-allow-headers", ALLOWED_REQUEST_HEADERS);
            reply.set("access-control-max-age", PREFLIGHT_MAX_AGE_S);
        }
        reply.set("allow", allow);
        reply
    }

    fn allows_origin(&self, origin: Option<&str>) -> bool {
        origin.is_some_and(|origin| self.config.cors_origins.iter().any(|o| o == origin))
    }

    /// Headers that depend on the request; the constant ones are a list that
    /// every reply points at.
    fn finish(&self, reply: &mut Reply, trace: &Trace, origin: Option<&str>) {
        reply.set("x-request-id", trace.request_id.as_str());
        if self.config.cors_origins.is_empty() {
            return;
        }
        reply.set("vary", "Origin");
        if let Some(origin) = origin.filter(|_| self.allows_origin(origin)) {
            reply.set("access-control-allow-origin", origin);
            reply.set("access-control-expose-headers", EXPOSED_HEADERS);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one line out of everything known")]
    fn log_request(
        &self,
        now: Timestamp,
        method: &Method,
        route: Option<&Endpoint>,
        reply: &Reply,
        trace: &Trace,
        caller: Option<&Caller>,
        failure: Option<(&'static str, Option<String>)>,
    ) {
        let status = reply.status.as_u16();
        let level = match status {
            500.. => Level::Error,
            400.. => Level::Warn,
            _ => Level::Info,
        };
        let template = route.map_or("(no route)", |route| route.path);
        let message = format!("{method} {template} {status}");
        let mut event = Event::new(now, level, "devskyy.request", &message);
        event.trace_id = Some(&trace.trace_id);
        event.request_id = Some(&trace.request_id);
        event.method = Some(method.as_str());
        event.status = Some(status);
        event.route = Some(template);
        event.user_id = caller.map(Caller::user_id);
        if let Some((code, cause)) = &failure {
            event = event.error(code, cause.as_deref().unwrap_or_default());
        }
        event.write(&self.platform.log);
    }
}

fn invalid_token(detail: &str) -> Problem {
    Problem::new(Code::InvalidToken, detail)
        .with_header("www-authenticate", "Bearer error=\"invalid_token\"")
}

fn wrong_method(method: &Method, routes: &[&Endpoint]) -> Problem {
    let allow = allowed_methods(routes);
    let shown: String = method.as_str().chars().take(20).collect();
    Problem::new(Code::MethodNotAllowed, format!("{shown} is not among {allow}"))
        .with_header("allow", allow)
}

fn allowed_methods(routes: &[&Endpoint]) -> String {
    let mut methods: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    methods.join(", ")
}

/// Names of a request in logs, here and at the callers'.
struct Trace {
    request_id: String,
    trace_id: String,
}

impl Trace {
    fn of(app: &App, request: &Request, now: Timestamp) -> Self {
        let mut random = [0_u8; 26];
        if let Err(error) = app.platform.random.fill(&mut random) {
            crate::log::warn(
                &app.platform.log,
                now,
                "devskyy.request",
                "no randomness for a request id",
                &error.to_string(),
            );
        }
        let (for_id, for_trace) = random.split_at(10);
        let given = request.headers.get("x-request-id").filter(|id| well_formed_id(id));
        let continued = request.headers.get("traceparent").and_then(|t| trace_id(&t));
        Self {
            request_id: given.unwrap_or_else(|| crate::domain::id::uuid_v7(now, for_id)),
            trace_id: continued.unwrap_or_else(|| hex(for_trace)),
        }
    }
}

fn well_formed_id(id: &str) -> bool {
    (8..=128).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The trace id of a W3C `traceparent`, if that is what it is.
fn trace_id(header: &str) -> Option<String> {
    let mut parts = header.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let valid = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && trace.bytes().any(|b| b != b'0')
        && is_hex(parent, 16)
        && parent.bytes().any(|b| b != b'0')
        && is_hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    valid.then(|| trace.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continues_only_a_well_formed_trace() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_id(good).as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        ] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn takes_only_harmless_request_ids() {
        assert!(well_formed_id("0190b6f0-aaaa_bbbb.c"));
        for bad in ["short", "has space in it", "line\nbreak-id", "ünïcode-id", &"x".repeat(129)]
        {
            assert!(!well_formed_id(bad), "{bad}");
        }
    }
}
