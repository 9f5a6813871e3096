//! The Worker's body of the platform: D1, KV, Durable Objects, static assets
//! and `fetch`, each behind the methods that `native` has too.
//!
//! What is kept per isolate is the `env` object and nothing else. Bindings are
//! looked up in it at each call (a property read, nothing beside the I/O that
//! follows), and no I/O object outlives its request: the runtime refuses one
//! that is used on behalf of another request.

mod assets;
mod bindings;
mod bucket;
mod database;
mod js;
mod kv;
mod objects;
mod outbound;

pub use assets::Assets;
pub use bucket::Bucket;
pub use database::Database;
pub use js::{ReadBody, discard_body, read_body};
pub use kv::KeyValue;
pub use objects::{ObjectStorage, Objects, object_reply};
pub use outbound::Outbound;

use super::{Error, ErrorKind};
use js::Bindings;
use wasm_bindgen::JsValue;
use worker::Env;

/// Wall-clock time. It stands still between two I/O events, so it cannot time
/// a computation; it is right around a fetch.
#[derive(Clone)]
pub struct Clock(());

impl Clock {
    pub fn now_ms(&self) -> i64 {
        js_sys::Date::now() as i64
    }
}

/// The runtime's cryptographic generator, `crypto.getRandomValues`. Only
/// inside an event: the runtime refuses randomness while a script loads.
#[derive(Clone)]
pub struct Random(());

impl Random {
    #[expect(clippy::disallowed_methods, reason = "this is where randomness comes from")]
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        getrandom::fill(bytes)
            .map_err(|error| Error::new(ErrorKind::Unavailable, format!("randomness: {error}")))
    }
}

/// Workers Logs, which index a line that is one JSON object by its fields.
#[derive(Clone)]
pub struct Log(());

impl Log {
    pub fn write(&self, line: &str) {
        bindings::console_log(line);
    }
}

/// Variables and secrets of the Worker: both are strings in `env`.
#[derive(Clone)]
pub struct Vars(Bindings);

impl Vars {
    pub fn get(&self, name: &str) -> Option<String> {
        js::field(self.0.env(), name).as_string()
    }
}

/// Header fields of a request, read from JavaScript one by one as they are
/// asked for: a request has dozens and a handler looks at three.
#[derive(Clone, Default)]
pub struct Headers(Option<web_sys::Headers>);

impl Headers {
    pub fn new(headers: web_sys::Headers) -> Self {
        Self(Some(headers))
    }

    /// A name that comes more than once reads as one value joined by `, `.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.as_ref().and_then(|headers| headers.get(name).ok().flatten())
    }
}

/// Everything outside, in one value. Clones are cheap: they share `env`.
#[derive(Clone)]
pub struct Platform {
    pub database: Database,
    pub kv: KeyValue,
    pub bucket: Bucket,
    pub objects: Objects,
    pub outbound: Outbound,
    pub clock: Clock,
    pub random: Random,
    pub log: Log,
    pub vars: Vars,
    pub assets: Assets,
}

impl Platform {
    pub fn new(env: Env) -> Self {
        let bindings = Bindings::new(JsValue::from(env));
        Self {
            database: Database::new(bindings.clone()),
            kv: KeyValue::new(bindings.clone()),
            bucket: Bucket::new(bindings.clone()),
            objects: Objects::new(bindings.clone()),
            outbound: Outbound::new(),
            clock: Clock(()),
            random: Random(()),
            log: Log(()),
            assets: Assets::new(bindings.clone()),
            vars: Vars(bindings),
        }
    }

    /// Bytes of WebAssembly memory, in pages of 64 KiB. It never shrinks, and
    /// counts against the 128 MB of the isolate.
    pub fn wasm_memory_bytes(&self) -> Option<u64> {
        u64::try_from(core::arch::wasm32::memory_size::<0>()).ok().map(|pages| pages * 65_536)
    }
}
