//! Workers KV.

use super::bindings::KvNamespace;
use super::js::{self, Bindings};
use crate::platform::{Error, ErrorKind};
use js_sys::{Object, Promise, Reflect};
use wasm_bindgen::JsValue;

const BINDING: &str = "KV";

/// The platform refuses an expiry nearer than this.
const MIN_TTL_S: u64 = 60;

/// What is kept in KV can be done without; a caller does not wait long for it.
const DEADLINE_MS: u32 = 2_000;

#[derive(Clone)]
pub struct KeyValue(Bindings);

impl KeyValue {
    pub(super) fn new(bindings: Bindings) -> Self {
        Self(bindings)
    }

    /// A change made elsewhere, absence included, may show after 60 s only.
    pub async fn get(&self, key: &str) -> Result<Option<String>, Error> {
        let namespace: KvNamespace = self.0.get(BINDING)?;
        Ok(settled("KV GET", namespace.get(key)).await?.as_string())
    }

    /// `ttl_s` is at least 60. More than one write a second of a key fails.
    pub async fn put(&self, key: &str, value: &str, ttl_s: u64) -> Result<(), Error> {
        if ttl_s < MIN_TTL_S {
            return Err(Error::new(ErrorKind::Misuse, "KV keeps an entry for 60 s at least"));
        }
        let namespace: KvNamespace = self.0.get(BINDING)?;
        let options = Object::new();
        Reflect::set(&options, &JsValue::from_str("expirationTtl"), &(ttl_s as f64).into())
            .map_err(|e| js::unavailable("KV PUT", &e))?;
        settled("KV PUT", namespace.put(key, value, &options)).await.map(drop)
    }

    /// A delete counts as a write of the key.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let namespace: KvNamespace = self.0.get(BINDING)?;
        settled("KV DELETE", namespace.delete(key)).await.map(drop)
    }
}

async fn settled(what: &str, call: Result<Promise, JsValue>) -> Result<JsValue, Error> {
    let promise = call.map_err(|e| js::unavailable(what, &e))?;
    match js::within(DEADLINE_MS, promise.into_future()).await {
        Some(outcome) => outcome.map_err(|e| js::unavailable(what, &e)),
        None => {
            Err(Error::new(ErrorKind::Timeout, format!("{what}: no answer in {DEADLINE_MS} ms")))
        }
    }
}
