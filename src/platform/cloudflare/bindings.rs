//! The JavaScript interfaces of the runtime that are used here, method by
//! method. Declared by hand because `worker` wraps them for serde and hides
//! the raw rows, and has no `transactionSync`.

use js_sys::{Array, Object, Promise};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = log)]
    pub fn console_log(line: &str);

    #[wasm_bindgen(catch, js_name = fetch)]
    pub fn fetch(url: &str, init: &web_sys::RequestInit) -> Result<Promise, JsValue>;

    // D1

    pub type D1Database;
    #[wasm_bindgen(method, catch)]
    pub fn prepare(this: &D1Database, sql: &str) -> Result<D1Statement, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub fn batch(this: &D1Database, statements: &Array) -> Result<Promise, JsValue>;

    pub type D1Statement;
    #[wasm_bindgen(method, catch, variadic)]
    pub fn bind(this: &D1Statement, values: &Array) -> Result<D1Statement, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub fn all(this: &D1Statement) -> Result<Promise, JsValue>;

    // KV

    pub type KvNamespace;
    #[wasm_bindgen(method, catch)]
    pub fn get(this: &KvNamespace, key: &str) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub fn put(
        this: &KvNamespace,
        key: &str,
        value: &str,
        options: &Object,
    ) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub fn delete(this: &KvNamespace, key: &str) -> Result<Promise, JsValue>;

    // R2

    pub type R2Bucket;
    #[wasm_bindgen(method, catch)]
    pub fn put(
        this: &R2Bucket,
        key: &str,
        value: &js_sys::Uint8Array,
        options: &Object,
    ) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub fn get(this: &R2Bucket, key: &str) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub fn list(this: &R2Bucket, options: &Object) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub fn delete(this: &R2Bucket, keys: &Array) -> Result<Promise, JsValue>;

    pub type R2Body;
    #[wasm_bindgen(method, catch, js_name = arrayBuffer)]
    pub fn array_buffer(this: &R2Body) -> Result<Promise, JsValue>;

    // Durable Objects, from outside

    pub type ObjectNamespace;
    #[wasm_bindgen(method, catch, js_name = getByName)]
    pub fn get_by_name(this: &ObjectNamespace, name: &str) -> Result<Fetcher, JsValue>;

    /// A stub of an object, or a service such as the static assets.
    pub type Fetcher;
    #[wasm_bindgen(method, catch)]
    pub fn fetch(
        this: &Fetcher,
        url: &str,
        init: &web_sys::RequestInit,
    ) -> Result<Promise, JsValue>;

    // Durable Objects, from inside

    #[derive(Clone)]
    pub type Storage;
    #[wasm_bindgen(method, getter)]
    pub fn sql(this: &Storage) -> Sql;
    /// Calls `work` at once; a throw in it rolls back and is thrown on.
    #[wasm_bindgen(method, catch, js_name = transactionSync)]
    pub fn transaction_sync(
        this: &Storage,
        work: &mut dyn FnMut() -> Result<(), JsValue>,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = setAlarm)]
    pub fn set_alarm(this: &Storage, at_ms: f64) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch, js_name = deleteAll)]
    pub fn delete_all(this: &Storage) -> Result<Promise, JsValue>;

    #[derive(Clone)]
    pub type Sql;
    #[wasm_bindgen(method, catch, variadic)]
    pub fn exec(this: &Sql, sql: &str, values: &Array) -> Result<SqlCursor, JsValue>;
    #[wasm_bindgen(method, catch, getter, js_name = databaseSize)]
    pub fn database_size(this: &Sql) -> Result<f64, JsValue>;

    pub type SqlCursor;
    #[wasm_bindgen(method, catch, getter, js_name = columnNames)]
    pub fn column_names(this: &SqlCursor) -> Result<Array, JsValue>;
    /// An iterator over the rows, each an array in the order of the columns.
    #[wasm_bindgen(method, catch)]
    pub fn raw(this: &SqlCursor) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch, js_namespace = Array, js_name = from)]
    pub fn collect(iterator: &JsValue) -> Result<Array, JsValue>;
}
