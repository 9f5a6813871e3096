//! The application of one isolate, and the context of one request.

use super::boards::{Board, Boards};
use super::body::Request;
use super::limiter::Limiter;
use super::problem::{Code, Problem};
use super::reply::Reply;
use super::route::Route;
use super::telemetry::Pending;
use crate::auth::caller::Caller;
use crate::auth::verifier::Verifier;
use crate::config::Config;
use crate::domain::telemetry::Reading;
use crate::domain::time::Timestamp;
use crate::log;
use crate::objects::telemetry;
use crate::platform::Platform;
use crate::platform::sql::Statement;
use crate::store::activity::{self, Entry, Status};
use ::http::Method;
use futures::future::LocalBoxFuture;
use std::cell::{Cell, OnceCell};
use std::rc::Rc;

pub type HandlerFuture = LocalBoxFuture<'static, Result<Reply, Problem>>;
pub type Handler = fn(Cx) -> HandlerFuture;

/// A row of the route table with the function that answers it.
pub type Endpoint = Route<Handler>;

/// Built once per isolate. What it keeps between requests are caches only:
/// an isolate's memory is neither shared nor durable.
pub struct App {
    pub platform: Platform,
    pub config: Config,
    pub routes: &'static [Endpoint],
    pub verifier: Verifier,
    pub boards: Boards,
    pub limiter: Limiter,
    /// Requests counted and not handed over yet.
    pub telemetry: Pending,
    /// Whether the outside could be reached, and when that was tried.
    pub control: Cell<Option<(Timestamp, Option<bool>)>>,
    /// Whether the OpenAPI document describes the routes: the same for every
    /// request of a build.
    pub openapi_matches: OnceCell<Result<(), String>>,
    pub openapi_etag: OnceCell<String>,
    router: matchit::Router<Vec<&'static Endpoint>>,
}

/// What the router makes of a method and path.
pub enum Matched {
    Found(&'static Endpoint, Vec<(String, String)>),
    /// The path is known, not with this method; these are.
    OtherMethods(Vec<&'static Endpoint>),
    Nothing,
}

impl App {
    pub fn new(platform: Platform, routes: &'static [Endpoint]) -> Rc<Self> {
        let config = Config::from_vars(&platform.vars);
        let verifier = Verifier::new(&config);
        if let Err(defect) = verifier.keys() {
            // Said once per isolate; readiness and every login say it too.
            let now = Timestamp::from_millis(platform.clock.now_ms());
            let what = "nobody can log in: there is no usable signing key";
            log::warn(&platform.log, now, "devskyy.start", what, &defect.to_string());
        }
        let mut by_path: Vec<(&'static str, Vec<&'static Endpoint>)> = Vec::new();
        for route in routes {
            match by_path.iter_mut().find(|(path, _)| *path == route.path) {
                Some((_, group)) => group.push(route),
                None => by_path.push((route.path, vec![route])),
            }
        }
        let mut router = matchit::Router::new();
        for (path, group) in by_path {
            if let Err(error) = router.insert(path, group) {
                // The table is constant and a test builds it: cannot happen.
                platform.log.write(&format!("route table: {path}: {error}"));
            }
        }
        Rc::new(Self {
            platform,
            config,
            routes,
            verifier,
            boards: Boards::default(),
            limiter: Limiter::default(),
            telemetry: Pending::default(),
            control: Cell::new(None),
            openapi_matches: OnceCell::new(),
            openapi_etag: OnceCell::new(),
            router,
        })
    }

    pub fn route(&self, method: &Method, path: &str) -> Matched {
        let Ok(found) = self.router.at(path) else {
            return Matched::Nothing;
        };
        // HEAD is answered like GET, without the body.
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        match found.value.iter().find(|route| route.method == *wanted) {
            Some(route) => {
                let params =
                    found.params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                Matched::Found(route, params)
            }
            None => Matched::OtherMethods(found.value.clone()),
        }
    }
}

impl App {
    /// Whether the caller is to start the task that calls
    /// [`App::flush_telemetry`] a little later: there is none yet.
    pub fn telemetry_due(&self) -> bool {
        self.telemetry.is_due(Timestamp::from_millis(self.platform.clock.now_ms()))
    }

    /// Hands over what was counted. What the object does not take stays, for
    /// the task that the next request starts.
    pub async fn flush_telemetry(&self) {
        for tenant_id in self.telemetry.begin() {
            // What came back the last time, and what was counted since.
            for _ in 0..2 {
                let Some((id, batch)) = self.telemetry.next(&tenant_id, || self.batch_id()) else {
                    break;
                };
                let outcome = telemetry::add(&self.platform, &tenant_id, &id, &batch).await;
                if let Err(error) = outcome {
                    let now = Timestamp::from_millis(self.platform.clock.now_ms());
                    let what = "counted requests are not handed over yet";
                    let log = &self.platform.log;
                    log::warn(log, now, "devskyy.telemetry", what, &error.to_string());
                    break;
                }
                self.telemetry.landed(&tenant_id, &id);
            }
        }
    }

    fn batch_id(&self) -> Option<Rc<str>> {
        let mut random = [0_u8; 16];
        self.platform.random.fill(&mut random).ok()?;
        Some(log::hex(&random).into())
    }

    /// What the tenant's object has counted, at most a second old; `None`
    /// where it does not answer.
    pub async fn reading(&self, tenant_id: &str, board: Option<&Board>) -> Option<Rc<Reading>> {
        if let Some(kept) = board.and_then(|board| board.reading.borrow().clone()) {
            return Some(kept);
        }
        match telemetry::reading(&self.platform, tenant_id).await {
            Ok(reading) => {
                let reading = Rc::new(reading);
                if let Some(board) = board {
                    *board.reading.borrow_mut() = Some(Rc::clone(&reading));
                }
                Some(reading)
            }
            Err(error) => {
                let now = Timestamp::from_millis(self.platform.clock.now_ms());
                let what = "the counted requests cannot be read";
                let log = &self.platform.log;
                log::warn(log, now, "devskyy.telemetry", what, &error.to_string());
                None
            }
        }
    }
}

/// One request on its way through a handler.
pub struct Cx {
    pub app: Rc<App>,
    pub request: Request,
    pub route: &'static Endpoint,
    pub params: Vec<(String, String)>,
    /// Set where a valid token was presented.
    pub caller: Option<Caller>,
    pub now: Timestamp,
    pub request_id: String,
    /// 32 hexadecimal digits; what the request causes carries it on.
    pub trace_id: String,
}

impl Cx {
    /// Who is calling; routes that require a token always have one.
    pub fn caller(&self) -> Result<&Caller, Problem> {
        self.caller.as_ref().ok_or_else(|| {
            Problem::new(Code::Unauthenticated, "present an access token: Authorization: Bearer …")
        })
    }

    /// The line of activity that says the caller did this, to stand in one
    /// batch with what it tells of.
    pub fn activity(&self, event: &str, subject: &str) -> Result<Statement, Problem> {
        let entry = self.entry(event, subject)?;
        Ok(activity::insert(&self.app.platform.random, self.now, &entry)?)
    }

    /// What the caller did, as a line of activity about to be written.
    pub fn entry<'a>(&'a self, event: &'a str, subject: &'a str) -> Result<Entry<'a>, Problem> {
        let caller = self.caller()?;
        Ok(Entry {
            tenant_id: caller.tenant_id(),
            actor: caller.id(),
            event,
            status: Status::Success,
            subject,
        })
    }

    /// Writes a line of activity on what is done already: a failure is logged,
    /// and the client is not told to repeat.
    pub async fn note(&self, dataset: &'static str, line: Statement) {
        let platform = &self.app.platform;
        if let Err(error) = platform.database.batch(vec![line]).await {
            let what = "activity not written";
            log::warn(&platform.log, self.now, dataset, what, &error.to_string());
        }
    }

    /// A parameter of the path template.
    pub fn param(&self, name: &str) -> Result<&str, Problem> {
        self.params
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| Problem::internal(format!("route {} has no {{{name}}}", self.route.id)))
    }
}
