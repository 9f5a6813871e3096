//! Durable Objects: calls to them, and the SQLite inside one.
//!
//! A call is a POST of the command's JSON. The reply is 200 with the reply's
//! JSON, or 500 with the kind of the failure in a header and its private
//! message in the body: both ends of that wire stand in this file.

use super::bindings::{ObjectNamespace, Storage};
use super::js::{self, Bindings};
use crate::platform::sql::{Row, Value};
use crate::platform::{Error, ErrorKind, OBJECT_DEADLINE_MS};
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};

/// An object is addressed by its stub; the URL is there because a request
/// needs one.
const URL: &str = "https://object/";

const KIND_HEADER: &str = "x-error-kind";

#[derive(Clone)]
pub struct Objects(Bindings);

impl Objects {
    pub(super) fn new(bindings: Bindings) -> Self {
        Self(bindings)
    }

    /// Sends a command to the object of this class and name.
    pub async fn call(&self, binding: &str, name: &str, command: String) -> Result<String, Error> {
        self.call_within(OBJECT_DEADLINE_MS, binding, name, command).await
    }

    /// As [`Objects::call`], for callers who have less time.
    pub async fn call_within(
        &self,
        deadline_ms: u32,
        binding: &str,
        name: &str,
        command: String,
    ) -> Result<String, Error> {
        let call = self.exchange(binding, name, &command);
        js::within(deadline_ms, call).await.unwrap_or_else(|| {
            let message = format!("{binding} did not answer within {deadline_ms} ms");
            Err(Error::new(ErrorKind::Timeout, message))
        })
    }

    async fn exchange(&self, binding: &str, name: &str, command: &str) -> Result<String, Error> {
        let fail = |e| js::unavailable(binding, &e);
        let namespace: ObjectNamespace = self.0.get(binding)?;
        // A stub belongs to the request, and is broken for good once a call
        // on it has failed: hence a new one each time.
        let stub = namespace.get_by_name(name).map_err(fail)?;
        let init = web_sys::RequestInit::new();
        init.set_method("POST");
        init.set_body(&JsValue::from_str(command));
        let promise = stub.fetch(URL, &init).map_err(fail)?;
        let response: web_sys::Response = promise.await.map_err(fail)?.unchecked_into();
        let body = response.text().map_err(fail)?.await.map_err(fail)?;
        let body = body.as_string().unwrap_or_default();
        if response.status() == 200 {
            return Ok(body);
        }
        let kind = response.headers().get(KIND_HEADER).ok().flatten();
        Err(Error::new(kind_from(kind.as_deref()), body))
    }
}

/// What an object answers, made of what its code gave.
pub fn object_reply(outcome: Result<String, Error>) -> Result<web_sys::Response, JsValue> {
    let error = match outcome {
        Ok(reply) => return web_sys::Response::new_with_opt_str(Some(&reply)),
        Err(error) => error,
    };
    let init = web_sys::ResponseInit::new();
    init.set_status(500);
    let response = web_sys::Response::new_with_opt_str_and_init(Some(error.message()), &init)?;
    response.headers().set(KIND_HEADER, kind_name(error.kind))?;
    Ok(response)
}

/// Code versions overlap during a deploy: a name, once given, stays.
const fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Timeout => "timeout",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Constraint => "constraint",
        ErrorKind::Misuse => "misuse",
    }
}

fn kind_from(name: Option<&str>) -> ErrorKind {
    match name {
        Some("timeout") => ErrorKind::Timeout,
        Some("constraint") => ErrorKind::Constraint,
        Some("misuse") => ErrorKind::Misuse,
        // Also the runtime's own error pages, which carry no kind.
        _ => ErrorKind::Unavailable,
    }
}

/// The SQLite of one object. Calls are synchronous: code between two awaits
/// runs alone.
#[derive(Clone)]
pub struct ObjectStorage(Rc<Storage>);

impl ObjectStorage {
    /// The storage that the runtime handed to the object's constructor.
    pub fn new(state: &worker::State) -> Result<Self, Error> {
        let storage = state.as_raw().storage().map_err(|e| js::unavailable("storage", &e))?;
        Ok(Self(Rc::new(storage.unchecked_into())))
    }

    pub fn query(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Error> {
        let fail = |e: JsValue| js::sql_error(&e);
        let cursor = self.0.sql().exec(sql, &js::parameters(values)?).map_err(fail)?;
        let columns = js::strings(&cursor.column_names().map_err(fail)?);
        // To the end, always: a cursor left open keeps the object from
        // committing (SQLITE_BUSY), which ends the object.
        let rows = super::bindings::collect(&cursor.raw().map_err(fail)?).map_err(fail)?;
        let mut out = Vec::with_capacity(rows.length() as usize);
        for row in rows.iter() {
            let row: js_sys::Array = row.unchecked_into();
            let values: Result<_, Error> = row.iter().map(|value| js::from_js(&value)).collect();
            out.push(Row::new(Rc::clone(&columns), values?));
        }
        Ok(out)
    }

    /// Runs `work` so that all of its writes are kept, or none if it fails.
    /// May be nested. `work` is synchronous, so nothing else runs meanwhile.
    pub fn transaction<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let mut work = Some(work);
        let mut outcome = None;
        let ended = self.0.transaction_sync(&mut || {
            // The runtime calls this once. Throwing is how it is told to roll
            // back; what is thrown comes out of the call again.
            let result = work.take().map(|work| work());
            let failed = !matches!(result, Some(Ok(_)));
            outcome = result;
            if failed { Err(JsValue::from_str("rolled back")) } else { Ok(()) }
        });
        match (outcome, ended) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (_, Err(thrown)) => Err(js::sql_error(&thrown)),
            (None, Ok(())) => Err(Error::new(ErrorKind::Misuse, "the transaction did not run")),
        }
    }

    /// Sets the one alarm of the object, in place of an earlier one.
    pub async fn set_alarm_ms(&self, at_ms: i64) -> Result<(), Error> {
        awaited(self.0.set_alarm(at_ms as f64)).await.map(drop)
    }

    /// Deletes everything, tables and alarm included: an object without
    /// storage costs nothing and is forgotten.
    pub async fn delete_all(&self) -> Result<(), Error> {
        awaited(self.0.delete_all()).await.map(drop)
    }

    /// Bytes of this object's database.
    pub fn size_bytes(&self) -> Result<u64, Error> {
        let bytes = self.0.sql().database_size().map_err(|e| js::sql_error(&e))?;
        Ok(bytes as u64)
    }
}

async fn awaited(call: Result<js_sys::Promise, JsValue>) -> Result<JsValue, Error> {
    let fail = |e| js::unavailable("storage", &e);
    call.map_err(fail)?.into_future().await.map_err(fail)
}
