//! Values, errors and deadlines between Rust and JavaScript.

use crate::platform::sql::{MAX_PARAMETERS, Value};
use crate::platform::{Error, ErrorKind};
use futures::future::{Either, select};
use js_sys::futures::JsFuture;
use js_sys::{Array, ArrayBuffer, Reflect, Uint8Array};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use wasm_bindgen::{JsCast, JsValue};
use worker::Delay;

/// The `env` of the isolate.
#[derive(Clone)]
pub struct Bindings(Rc<JsValue>);

impl Bindings {
    pub fn new(env: JsValue) -> Self {
        Self(Rc::new(env))
    }

    pub fn env(&self) -> &JsValue {
        &self.0
    }

    /// The binding of this name, taken to be a `T`: the classes of the
    /// runtime are not in scope of a Worker, so their names cannot be checked.
    pub fn get<T: JsCast>(&self, name: &str) -> Result<T, Error> {
        let binding = field(&self.0, name);
        if binding.is_object() {
            Ok(binding.unchecked_into())
        } else {
            Err(Error::new(ErrorKind::Misuse, format!("no binding {name}")))
        }
    }
}

/// A property, `undefined` where there is none.
pub fn field(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
}

/// The text of whatever was thrown.
pub fn text(thrown: &JsValue) -> String {
    field(thrown, "message")
        .as_string()
        .or_else(|| thrown.as_string())
        .unwrap_or_else(|| format!("{thrown:?}"))
}

/// A throw of a service: it said no, or could not be reached.
pub fn unavailable(what: &str, thrown: &JsValue) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{what}: {}", text(thrown)))
}

/// A throw of SQLite or D1.
pub fn sql_error(thrown: &JsValue) -> Error {
    Error::from_sql(text(thrown))
}

/// What `work` gives if it ends within the deadline.
///
/// The timer is cancelled when `work` ends first (`Delay` does so when it is
/// dropped): a timer left running would keep the invocation alive and billed.
pub async fn within<F: Future>(deadline_ms: u32, work: F) -> Option<F::Output> {
    let timer = Delay::from(Duration::from_millis(u64::from(deadline_ms)));
    match select(pin!(work), pin!(timer)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// The values of one statement, in JavaScript.
pub fn parameters(values: &[Value]) -> Result<Array, Error> {
    if values.len() > MAX_PARAMETERS {
        return Err(Error::new(ErrorKind::Misuse, "over 100 bound parameters"));
    }
    Ok(values.iter().map(to_js).collect())
}

/// D1 and an object's SQLite alike bind every number as REAL (a BigInt is
/// refused). A typed column turns 3.0 back into 3; where no column does, SQL
/// must say `CAST(?1 AS INTEGER)`: without it `?1 / 2` is no integer division
/// and `json_object('n', ?1)` writes 3.0.
fn to_js(value: &Value) -> JsValue {
    match value {
        Value::Null => JsValue::NULL,
        Value::Integer(number) => JsValue::from_f64(*number as f64),
        Value::Real(number) => JsValue::from_f64(*number),
        Value::Text(text) => JsValue::from_str(text),
        Value::Blob(bytes) => Uint8Array::from(bytes.as_slice()).into(),
    }
}

/// A value of a row. JavaScript has one type of number: a whole one that it
/// can hold exactly reads as an integer, as `Row::get::<f64>` expects.
pub fn from_js(value: &JsValue) -> Result<Value, Error> {
    const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
    if let Some(number) = value.as_f64() {
        return Ok(if number.trunc() == number && number.abs() <= MAX_SAFE_INTEGER {
            Value::Integer(number as i64)
        } else {
            Value::Real(number)
        });
    }
    if let Some(text) = value.as_string() {
        return Ok(Value::Text(text));
    }
    if value.is_null() || value.is_undefined() {
        return Ok(Value::Null);
    }
    // An object's SQLite gives a blob as an ArrayBuffer, D1 as an array of
    // numbers because its replies cross the network as JSON.
    if value.is_instance_of::<ArrayBuffer>() || Array::is_array(value) {
        return Ok(Value::Blob(Uint8Array::new(value).to_vec()));
    }
    Err(Error::new(ErrorKind::Misuse, format!("unreadable value in a row: {value:?}")))
}

pub fn strings(array: &Array) -> Rc<[String]> {
    array.iter().map(|text| text.as_string().unwrap_or_default()).collect()
}

/// Cancels a body nobody will read: an unread one holds its connection, of
/// which an invocation has six.
pub fn discard_body(body: Option<web_sys::ReadableStream>) {
    if let Some(body) = body {
        // Nobody waits for the promise; as a `JsFuture` it has handlers, so a
        // rejection is not reported as unhandled.
        drop(JsFuture::from(body.cancel()));
    }
}

/// What was read of a body, and whether there was more.
pub struct ReadBody {
    pub bytes: Vec<u8>,
    pub truncated: bool,
}

/// Reads chunk by chunk up to `max_bytes`, then cancels the rest.
pub async fn read_body(
    body: web_sys::ReadableStream,
    max_bytes: usize,
) -> Result<ReadBody, JsValue> {
    let reader: web_sys::ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let mut bytes = Vec::new();
    loop {
        let chunk = JsFuture::from(reader.read()).await?;
        if field(&chunk, "done").is_truthy() {
            return Ok(ReadBody { bytes, truncated: false });
        }
        let chunk: Uint8Array = field(&chunk, "value").unchecked_into();
        let room = u32::try_from(max_bytes.saturating_sub(bytes.len())).unwrap_or(u32::MAX);
        if chunk.length() > room {
            append(&mut bytes, &chunk.subarray(0, room));
            drop(JsFuture::from(reader.cancel()));
            return Ok(ReadBody { bytes, truncated: true });
        }
        append(&mut bytes, &chunk);
    }
}

fn append(bytes: &mut Vec<u8>, chunk: &Uint8Array) {
    let start = bytes.len();
    bytes.resize(start + chunk.length() as usize, 0);
    if let Some(room) = bytes.get_mut(start..) {
        chunk.copy_to(room);
    }
}
