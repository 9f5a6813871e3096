//! The Worker: its events, the HTTP adapter and the shells of its Durable
//! Objects. Wiring only.
//!
//! The adapter works on the runtime's own request and response. `worker`'s
//! wrappers read fields that nobody asks for, and its `http` types make a
//! stream of every body, which costs more than most handlers do.
//!
//! There is no `start` event: `worker` brings a panic hook that prints the
//! panic and marks the instance as dead, for the shim to replace; a hook of
//! ours could take its place.

use crate::http::reply::Policy;
use crate::http::{App, Body, MAX_BODY_BYTES, Reply, Request};
use crate::objects::{Host, ObjectClass};
use crate::platform::{self, Headers, ObjectStorage, Platform};
use crate::routes::ROUTES;
use ::http::{Method, StatusCode};
use bytes::Bytes;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use wasm_bindgen::JsValue;
use worker::{Context, Env, ScheduleContext, ScheduledEvent, State, durable_object, event};

thread_local! {
    /// The application of this isolate. Should a panic end the instance,
    /// worker-build's shim starts a new one and this is empty again.
    static APP: OnceCell<Rc<App>> = const { OnceCell::new() };

    /// See [`prepared`].
    static PREPARED: RefCell<Vec<Prepared>> = const { RefCell::new(Vec::new()) };
}

/// What was counted goes to its object this long after the first request: one
/// call for all the requests of that time, made by none of them.
const FLUSH_AFTER: Duration = Duration::from_secs(2);

#[event(fetch)]
async fn fetch(
    request: web_sys::Request,
    env: Env,
    context: Context,
) -> worker::Result<web_sys::Response> {
    let app = APP.with(|app| Rc::clone(app.get_or_init(|| App::new(Platform::new(env), ROUTES))));
    let request = receive(&request).await?;
    let is_head = request.method == Method::HEAD;
    let reply = app.handle(request).await;
    if app.telemetry_due() {
        context.wait_until(async move {
            worker::Delay::from(FLUSH_AFTER).await;
            app.flush_telemetry().await;
        });
    }
    Ok(send(&reply, is_head)?)
}

#[event(scheduled)]
async fn scheduled(event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    let platform = Platform::new(env);
    crate::jobs::run(&platform, &event.cron(), event.schedule() as i64).await;
}

async fn receive(raw: &web_sys::Request) -> Result<Request, JsValue> {
    // The runtime lets through methods of its own list only, all valid names.
    let method = Method::from_bytes(raw.method().as_bytes()).unwrap_or_default();
    let (path, query) = path_and_query(&raw.url());
    let headers = raw.headers();
    let body = match method {
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
            receive_body(raw, &headers).await?
        }
        _ => Body::Whole(Bytes::new()),
    };
    Ok(Request { method, path, query, headers: Headers::new(headers), body })
}

/// The runtime's URLs are absolute and normalised: the first `/` after the
/// host begins the path, in which `?` is always percent-encoded.
fn path_and_query(url: &str) -> (String, Option<String>) {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let target = after_scheme.find('/').and_then(|at| after_scheme.get(at..)).unwrap_or("/");
    match target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (target.to_owned(), None),
    }
}

/// A body that is too large is read and dropped up to this length: over HTTP/1
/// the runtime closes the connection on one that was not read, and of the
/// clients that were still sending a few in a hundred then saw the close in
/// place of the 413. The bytes stay outside of WebAssembly's memory.
const MAX_DRAINED_BYTES: usize = 4 * MAX_BODY_BYTES;

async fn receive_body(raw: &web_sys::Request, headers: &web_sys::Headers) -> Result<Body, JsValue> {
    let Some(stream) = raw.body() else {
        return Ok(Body::Whole(Bytes::new()));
    };
    let announced = headers.get("content-length")?.and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > MAX_DRAINED_BYTES) {
        platform::discard_body(Some(stream));
        return Ok(Body::TooLarge);
    }
    // With a length and no chunks the server reads that many bytes and no
    // more, so the body may be taken whole: a stream comes in pieces of 4 KB,
    // which made 100 KB cost five times as much.
    if announced.is_some() && !headers.has("transfer-encoding")? {
        let buffer = raw.array_buffer()?.await?;
        if announced.is_some_and(|bytes| bytes > MAX_BODY_BYTES) {
            return Ok(Body::TooLarge);
        }
        return Ok(Body::Whole(js_sys::Uint8Array::new(&buffer).to_vec().into()));
    }
    let read = platform::read_body(stream, MAX_BODY_BYTES).await?;
    Ok(if read.truncated { Body::TooLarge } else { Body::Whole(read.bytes.into()) })
}

/// More replies prepared than an isolate sees of one tenant.
const MAX_PREPARED: usize = 128;

/// What `new Response` takes beside the body, for one list of constant
/// headers and one status.
struct Prepared {
    constant: &'static [(&'static str, &'static str)],
    status: u16,
    policy: Option<Policy>,
    init: web_sys::ResponseInit,
}

/// Made once per isolate and pair: the constructor copies the headers out of
/// it inside the runtime, in place of fifteen calls from here per reply.
///
/// There are as many as lists times statuses times limits; as tenants set
/// limits of their own, it starts over when there are too many.
fn prepared(reply: &Reply) -> Result<web_sys::ResponseInit, JsValue> {
    let constant = reply.constant;
    let status = reply.status.as_u16();
    PREPARED.with(|prepared| {
        let mut prepared = prepared.borrow_mut();
        if let Some(found) = prepared.iter().find(|p| {
            std::ptr::eq(p.constant, constant) && p.status == status && p.policy == reply.policy
        }) {
            return Ok(found.init.clone());
        }
        let headers = web_sys::Headers::new()?;
        for (name, value) in constant {
            headers.set(name, value)?;
        }
        for (name, value) in reply.policy.iter().flat_map(Policy::fields) {
            headers.set(name, &value)?;
        }
        let init = web_sys::ResponseInit::new();
        init.set_status(status);
        init.set_headers(&headers);
        if prepared.len() >= MAX_PREPARED {
            prepared.clear();
        }
        prepared.push(Prepared { constant, status, policy: reply.policy, init: init.clone() });
        Ok(init)
    })
}

fn send(reply: &Reply, is_head: bool) -> Result<web_sys::Response, JsValue> {
    let init = prepared(reply)?;
    // The runtime throws on a body, even an empty one, with 204 and 304.
    let bodiless = is_head
        || reply.body.is_empty()
        || matches!(reply.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let response = if bodiless {
        web_sys::Response::new_with_opt_str_and_init(None, &init)?
    } else if let Ok(text) = std::str::from_utf8(&reply.body) {
        // Cheaper than bytes (20 KB: a tenth of the whole request), whose
        // buffer JavaScript must allocate outside its heap.
        web_sys::Response::new_with_opt_str_and_init(Some(text), &init)?
    } else {
        // A copy: the runtime keeps what it is given, and a view into
        // WebAssembly memory would change under it.
        let body = js_sys::Uint8Array::from(reply.body.as_ref());
        web_sys::Response::new_with_opt_buffer_source_and_init(Some(&body), &init)?
    };
    let headers = response.headers();
    for (index, (name, value)) in reply.headers.iter().enumerate() {
        let repeated = reply.headers.iter().take(index).any(|(earlier, _)| earlier == name);
        if repeated {
            headers.append(name, value)?;
        } else {
            headers.set(name, value)?;
        }
    }
    Ok(response)
}

/// What the classes of objects have in common: the brain, made at the
/// first command and kept while the platform keeps the object in memory.
struct Shell {
    class: ObjectClass,
    state: State,
    env: Env,
    object: OnceCell<Rc<Host>>,
}

impl Shell {
    fn new(class: ObjectClass, state: State, env: Env) -> Self {
        Self { class, state, env, object: OnceCell::new() }
    }

    async fn answer(&self, mut request: worker::Request) -> worker::Result<worker::Response> {
        let command = request.text().await?;
        let outcome = match self.object() {
            Ok(object) => object.handle(command).await,
            Err(error) => Err(error),
        };
        Ok(platform::object_reply(outcome)?.into())
    }

    /// An alarm that fails is rung again by the runtime, six times at most, so
    /// the brain handles its own failures; only one that cannot even be made
    /// is left to the runtime.
    async fn ring(&self) -> worker::Result<worker::Response> {
        let rung = match self.object() {
            Ok(object) => object.alarm().await,
            Err(error) => Err(error),
        };
        rung.map_err(|error| worker::Error::RustError(error.to_string()))?;
        worker::Response::empty()
    }

    fn object(&self) -> Result<Rc<Host>, platform::Error> {
        if let Some(object) = self.object.get() {
            return Ok(Rc::clone(object));
        }
        let storage = ObjectStorage::new(&self.state)?;
        let object = Host::new(self.class, Platform::new(self.env.clone()), storage);
        Ok(Rc::clone(self.object.get_or_init(|| Rc::new(object))))
    }
}

/// The classes of objects, each a shell around its brain. Every class has an
/// alarm; most never set it.
macro_rules! shells {
    ($($(#[$doc:meta])* $name:ident = $class:ident;)*) => {$(
        $(#[$doc])*
        #[durable_object(alarm)]
        pub struct $name(Shell);

        impl worker::DurableObject for $name {
            fn new(state: State, env: Env) -> Self {
                Self(Shell::new(ObjectClass::$class, state, env))
            }

            async fn fetch(&self, request: worker::Request) -> worker::Result<worker::Response> {
                self.0.answer(request).await
            }

            async fn alarm(&self) -> worker::Result<worker::Response> {
                self.0.ring().await
            }
        }
    )*};
}

shells! {
    /// One per tenant and partnership.
    PartnershipObject = Partnership;
    /// One per tenant.
    BoardObject = Board;
    /// One per client.
    RateLimitObject = RateLimit;
    /// One per tenant.
    IncidentObject = Incident;
    /// One per tenant.
    TelemetryObject = Telemetry;
}
