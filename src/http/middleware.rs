//! The ordered stack every request goes through:
//!
//! 1. request id and trace; 2. route, or OPTIONS, which is free; 3. whose
//!    credential it is; 4. rate limits, of whoever that is; 5. 404 / 405, and
//!    may he; 6. the handler; 7. headers of every reply; 8. one log line.

use super::app::{App, Cx, Endpoint, Matched};
use super::body::{Body, Request};
use super::conditional;
use super::limiter::{self, Counted, Subject};
use super::problem::{Code, Problem};
use super::reply::Reply;
use super::route::{Access, BodyKind};
use crate::auth::api_key;
use crate::auth::caller::{Caller, InvalidToken};
use crate::auth::permission::Permission;
use crate::domain::rate_limit::{LimitClass, Limits};
use crate::domain::time::Timestamp;
use crate::log::{self, Event, Level};
use crate::objects::board;
use crate::objects::rate_limit::ClientName;
use crate::platform::Headers;
use crate::store::tenants::DEFAULT_TENANT_ID;
use ::http::{Method, StatusCode};
use std::rc::Rc;

/// Replies a browser of an allowed origin may read.
const EXPOSED_HEADERS: &str = "RateLimit, RateLimit-Policy, Retry-After, ETag, X-Request-Id, \
     X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-RateLimit-Status, Link, \
     Location, Idempotency-Replayed";
const ALLOWED_REQUEST_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-API-Key, \
     X-Request-Id, Traceparent";
const PREFLIGHT_MAX_AGE_S: &str = "600";

/// An access token over this many bytes is refused unread.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Whose credential a request presents.
enum Presented {
    Nothing,
    Valid(Caller),
    /// With the problem to be answered where a valid one is needed.
    Invalid(Problem),
}

/// What is known of a request by the time it is answered, however it ends.
#[derive(Default)]
struct Seen {
    caller: Option<Caller>,
    /// Of a valid credential, whether or not it was enough.
    tenant_id: Option<String>,
    counted: Option<Counted>,
}

impl App {
    /// Answers one request. Never fails: what goes wrong becomes a problem.
    pub async fn handle(self: &Rc<Self>, request: Request) -> Reply {
        let now = Timestamp::from_millis(self.platform.clock.now_ms());
        let trace = Trace::of(self, &request, now);
        let origin = request.headers.get("origin");
        let method = request.method.clone();
        let path = request.path.clone();

        let mut seen = Seen::default();
        let (route, outcome) = match self.route(&method, &path) {
            Matched::OtherMethods(routes) if method == Method::OPTIONS => {
                (None, Ok(self.options(&routes, &request, origin.as_deref())))
            }
            Matched::Found(route, params) => {
                let outcome = self.run(route, params, request, now, &trace, &mut seen).await;
                (Some(route), outcome)
            }
            Matched::OtherMethods(routes) => {
                let counted = self.admit(None, &request, now, &mut seen).await;
                (None, counted.and_then(|_| Err(wrong_method(&method, &routes))))
            }
            Matched::Nothing => {
                let counted = self.admit(None, &request, now, &mut seen).await;
                let missing = "no route with this path; GET /docs lists them";
                (None, counted.and_then(|_| Err(Problem::not_found(missing))))
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
        if let Some(counted) = &seen.counted {
            limiter::tell(&mut reply, counted, now);
        }
        self.finish(&mut reply, &trace, origin.as_deref());
        let ended = Timestamp::from_millis(self.platform.clock.now_ms());
        // The clock may be set back.
        let duration_ms = u64::try_from(ended.since_ms(now)).unwrap_or_default();
        let tenant_id = seen.tenant_id.as_deref().unwrap_or(DEFAULT_TENANT_ID);
        self.telemetry.record(tenant_id, route, &method, reply.status, now, duration_ms);
        let duration_ns = log::duration_ns(now, ended);
        self.log_request(now, duration_ns, &method, route, &reply, &trace, &seen, failure);
        reply
    }

    async fn run(
        self: &Rc<Self>,
        route: &'static Endpoint,
        params: Vec<(String, String)>,
        request: Request,
        now: Timestamp,
        trace: &Trace,
        seen: &mut Seen,
    ) -> Result<Reply, Problem> {
        let presented = self.admit(Some(route), &request, now, seen).await?;
        let caller = authorize(route, presented, self.config.public_health)?;
        seen.caller.clone_from(&caller);
        if route.body != BodyKind::None && matches!(request.body, Body::TooLarge) {
            request.bytes()?;
        }
        let conditions = route.tagged.then(|| request.headers.clone());
        let cx = Cx {
            app: Rc::clone(self),
            request,
            route,
            params,
            caller,
            now,
            request_id: trace.request_id.clone(),
            trace_id: trace.trace_id.clone(),
        };
        let reply = (route.handler)(cx).await?;
        Ok(match conditions {
            Some(headers) => conditional::answer(reply, &headers),
            None => reply,
        })
    }

    /// Finds out whose request it is and counts it: against the API key or
    /// user of a valid credential, else against the address.
    async fn admit(
        &self,
        route: Option<&Endpoint>,
        request: &Request,
        now: Timestamp,
        seen: &mut Seen,
    ) -> Result<Presented, Problem> {
        let class = route.map_or(LimitClass::Default, |route| route.limit);
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        let address = limiter::address(&request.headers);
        // Whoever tries a password is an address, whatever else he shows.
        let mut presented = match class {
            LimitClass::Login if route.is_some_and(|route| route.access == Access::Public) => {
                Presented::Nothing
            }
            _ => self.present(&request.headers, &address, class, now).await?,
        };
        let mut limits = Limits::default();
        let mut board_error = None;
        if let Presented::Valid(caller) = &presented {
            seen.tenant_id = Some(caller.tenant_id().to_owned());
            match self.boards.snapshot(&self.platform, caller.tenant_id(), now).await {
                Ok(board) if board.is_revoked(caller.id(), caller.issued_at()) => {
                    self.verifier.forget_api_key(caller.id());
                    presented = Presented::Invalid(withdrawn());
                    seen.tenant_id = None;
                }
                Ok(board) => limits = board.limits.unwrap_or_default(),
                // The board says what was withdrawn. With it out of reach a
                // valid credential still reads, and does not write.
                Err(error) => board_error = Some(error),
            }
        }
        if self.config.rate_limiting {
            let client = match &presented {
                Presented::Valid(caller) => ClientName {
                    tenant_id: Some(caller.tenant_id().to_owned()),
                    id: caller.id().to_owned(),
                },
                Presented::Nothing | Presented::Invalid(_) => address,
            };
            let minds_settings = route.is_some_and(|route| {
                matches!(
                    route.access,
                    Access::Requires(Permission::ConfigRead | Permission::ConfigWrite)
                )
            });
            let subject = Subject { client, class, limits, minds_settings };
            let counted = self.limiter.count(&self.platform, &subject, now).await?;
            seen.counted = Some(counted);
            let is_enforced = matches!(counted, Counted::Passed { quotas_known: true, .. });
            if !is_enforced {
                self.note_unenforced(&subject.client, now).await;
                if !is_read || class == LimitClass::Login {
                    return Err(limiter::unenforceable());
                }
            }
        }
        match board_error {
            Some(error) if !is_read => Err(error.into()),
            _ => Ok(presented),
        }
    }

    /// Writes down that requests passed uncounted.
    async fn note_unenforced(&self, client: &ClientName, now: Timestamp) {
        let passed = self.limiter.take_unenforced();
        if passed == 0 {
            return;
        }
        let tenant_id = client.tenant_id.as_deref().unwrap_or(DEFAULT_TENANT_ID);
        let noted = board::count(&self.platform, tenant_id, board::UNENFORCED, passed).await;
        if let Err(error) = noted {
            self.limiter.return_unenforced(passed);
            let what = "requests that passed uncounted are not noted yet";
            log::warn(&self.platform.log, now, "devskyy.rate_limit", what, &error.to_string());
        }
    }

    /// The credential: an access token or API key in `Authorization: Bearer`,
    /// or an API key in `X-API-Key`; one of them.
    async fn present(
        &self,
        headers: &Headers,
        address: &ClientName,
        class: LimitClass,
        now: Timestamp,
    ) -> Result<Presented, Problem> {
        let key_header = headers.get("x-api-key");
        let Some(header) = headers.get("authorization") else {
            return match key_header {
                Some(key) => self.present_api_key(key.trim(), address, class, now).await,
                None => Ok(Presented::Nothing),
            };
        };
        if key_header.is_some() {
            let detail = "present one credential: Authorization or X-API-Key, not both";
            return Ok(Presented::Invalid(invalid_token(detail)));
        }
        let token = header
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .filter(|token| !token.is_empty());
        let Some(token) = token else {
            let detail = "expected Authorization: Bearer <access token or API key>";
            return Ok(Presented::Invalid(invalid_token(detail)));
        };
        if token.starts_with(api_key::START) {
            return self.present_api_key(token, address, class, now).await;
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Ok(Presented::Invalid(not_valid(InvalidToken::TooLong)));
        }
        Ok(match self.verifier.verify(token, now) {
            Ok(caller) => Presented::Valid(caller),
            Err(reason) => Presented::Invalid(not_valid(reason)),
        })
    }

    async fn present_api_key(
        &self,
        key: &str,
        address: &ClientName,
        class: LimitClass,
        now: Timestamp,
    ) -> Result<Presented, Problem> {
        if let Some(caller) = self.verifier.known_api_key(key, now) {
            return Ok(Presented::Valid(caller));
        }
        // An address that is being refused gets no query for each guess.
        if self.config.rate_limiting && self.limiter.is_refusing(address, class, now) {
            return Ok(Presented::Invalid(not_valid(InvalidToken::UnknownKey)));
        }
        Ok(match self.verifier.verify_api_key(&self.platform, key, now).await? {
            Ok(caller) => Presented::Valid(caller),
            Err(reason) => Presented::Invalid(not_valid(reason)),
        })
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
        duration_ns: u64,
        method: &Method,
        route: Option<&Endpoint>,
        reply: &Reply,
        trace: &Trace,
        seen: &Seen,
        failure: Option<(&'static str, Option<Box<str>>)>,
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
        event.span_id = Some(&trace.span_id);
        event.duration_ns = Some(duration_ns);
        event.request_id = Some(&trace.request_id);
        event.method = Some(method.as_str());
        event.status = Some(status);
        event.route = Some(template);
        event.user_id = seen.caller.as_ref().map(Caller::id);
        if let Some((code, cause)) = &failure {
            event = event.error(code, cause.as_deref().unwrap_or_default());
        }
        event.write(&self.platform.log);
    }
}

/// 401: who are you; 403: you may not.
fn authorize(
    route: &Endpoint,
    presented: Presented,
    public_health: bool,
) -> Result<Option<Caller>, Problem> {
    let (required, needed) = match route.access {
        Access::Public => return Ok(None),
        Access::PublicHealth(permission) => (!public_health, Some(permission)),
        Access::Authenticated | Access::User => (true, None),
        Access::Requires(permission) => (true, Some(permission)),
    };
    let caller = match presented {
        Presented::Valid(caller) => caller,
        Presented::Invalid(problem) => return Err(problem),
        Presented::Nothing if !required => return Ok(None),
        Presented::Nothing => {
            let detail = "present an access token or API key: Authorization: Bearer …";
            return Err(Problem::new(Code::Unauthenticated, detail)
                .with_header("www-authenticate", "Bearer"));
        }
    };
    match needed {
        Some(permission) if !caller.may(permission) => {
            let who = match caller.role() {
                Some(role) => format!("the role {}", role.name()),
                None => "the API key".to_owned(),
            };
            Err(Problem::new(Code::Forbidden, format!("{who} lacks {}", permission.name())))
        }
        None if route.access == Access::User && caller.role().is_none() => {
            Err(Problem::new(Code::Forbidden, "this is for users; an API key is none"))
        }
        _ => Ok(Some(caller)),
    }
}

fn not_valid(reason: InvalidToken) -> Problem {
    Problem {
        cause: Some(format!("credential refused: {reason:?}").into()),
        ..invalid_token("the token or API key is not valid or has expired")
    }
}

fn withdrawn() -> Problem {
    invalid_token("the token or API key was withdrawn")
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
    /// Of this request.
    span_id: String,
}

impl Trace {
    fn of(app: &App, request: &Request, now: Timestamp) -> Self {
        let mut random = [0_u8; 34];
        if let Err(error) = app.platform.random.fill(&mut random) {
            crate::log::warn(
                &app.platform.log,
                now,
                "devskyy.request",
                "no randomness for a request id",
                &error.to_string(),
            );
        }
        let (for_id, others) = random.split_at(10);
        let (for_trace, for_span) = others.split_at(16);
        let given = request.headers.get("x-request-id").filter(|id| well_formed_id(id));
        let continued = request.headers.get("traceparent").and_then(|t| trace_id(&t));
        Self {
            request_id: given.unwrap_or_else(|| crate::domain::id::uuid_v7(now, for_id)),
            trace_id: continued.unwrap_or_else(|| log::hex(for_trace)),
            span_id: log::hex(for_span),
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
