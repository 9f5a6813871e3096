//! R2: files by key.

use super::bindings::{R2Body, R2Bucket};
use super::js::{self, Bindings};
use crate::platform::{Error, ErrorKind, Listing};
use js_sys::{Array, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};

const BINDING: &str = "BACKUPS";

/// A file is some megabytes.
const DEADLINE_MS: u32 = 20_000;

#[derive(Clone)]
pub struct Bucket(Bindings);

impl Bucket {
    pub(super) fn new(bindings: Bindings) -> Self {
        Self(bindings)
    }

    /// R2 refuses bytes that have not this SHA-256, in hex.
    pub async fn put(&self, key: &str, bytes: &[u8], sha256: &str) -> Result<(), Error> {
        let bucket: R2Bucket = self.0.get(BINDING)?;
        let options = options(&[("sha256", sha256)])?;
        // A copy, as the call goes on while this memory may move.
        settled("R2 PUT", bucket.put(key, &Uint8Array::from(bytes), &options)).await.map(drop)
    }

    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let bucket: R2Bucket = self.0.get(BINDING)?;
        let found = settled("R2 GET", bucket.get(key)).await?;
        if found.is_null() || found.is_undefined() {
            return Ok(None);
        }
        let found: R2Body = found.unchecked_into();
        let buffer = settled("R2 GET", found.array_buffer()).await?;
        Ok(Some(Uint8Array::new(&buffer).to_vec()))
    }

    /// Up to 1,000 keys, in order.
    pub async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<Listing, Error> {
        let bucket: R2Bucket = self.0.get(BINDING)?;
        let mut fields = vec![("prefix", prefix)];
        fields.extend(cursor.map(|cursor| ("cursor", cursor)));
        let listed = settled("R2 LIST", bucket.list(&options(&fields)?)).await?;
        let objects: Array = js::field(&listed, "objects").unchecked_into();
        let keys = objects.iter().filter_map(|object| js::field(&object, "key").as_string());
        Ok(Listing { keys: keys.collect(), cursor: js::field(&listed, "cursor").as_string() })
    }

    /// At most 1,000 keys; one that is not there is no error.
    pub async fn delete(&self, keys: &[String]) -> Result<(), Error> {
        let bucket: R2Bucket = self.0.get(BINDING)?;
        let keys: Array = keys.iter().map(|key| JsValue::from_str(key)).collect();
        settled("R2 DELETE", bucket.delete(&keys)).await.map(drop)
    }
}

fn options(fields: &[(&str, &str)]) -> Result<Object, Error> {
    let options = Object::new();
    for (name, value) in fields {
        Reflect::set(&options, &JsValue::from_str(name), &JsValue::from_str(value))
            .map_err(|e| js::unavailable("R2", &e))?;
    }
    Ok(options)
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
