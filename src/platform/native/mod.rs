//! The host's body of the platform: SQLite through rusqlite, objects in
//! process, scripted outbound calls, a clock that is set by hand, and faults
//! on demand. Tests and generators run the whole application on it.
//!
//! Single-threaded, like an isolate.

mod bucket;
mod database;
mod kv;
mod objects;
mod outbound;

pub use bucket::Bucket;
pub use database::Database;
pub use kv::KeyValue;
pub use objects::{ObjectBody, ObjectFactory, ObjectStorage, Objects};
pub use outbound::{Outbound, Script};

use super::{Asset, Error};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// How an injected fault shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call never arrived.
    Lost,
    /// The call arrived and took effect, but the caller saw an error.
    LandedButErrored,
}

/// Faults waiting to happen: each fires once, at the first call whose text
/// holds `needle`.
#[derive(Clone, Default)]
pub(crate) struct Faults(Rc<RefCell<Vec<(String, Fault)>>>);

impl Faults {
    pub(crate) fn add(&self, needle: &str, fault: Fault) {
        self.0.borrow_mut().push((needle.to_owned(), fault));
    }

    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    pub(crate) fn take(&self, text: &str) -> Option<Fault> {
        let mut faults = self.0.borrow_mut();
        let index = faults.iter().position(|(needle, _)| text.contains(needle.as_str()))?;
        Some(faults.remove(index).1)
    }
}

/// A clock that stands still until it is set.
#[derive(Clone, Default)]
pub struct Clock(Rc<Cell<i64>>);

impl Clock {
    pub fn now_ms(&self) -> i64 {
        self.0.get()
    }

    pub fn set_ms(&self, now_ms: i64) {
        self.0.set(now_ms);
    }

    pub fn advance_ms(&self, by_ms: i64) {
        self.0.set(self.0.get() + by_ms);
    }
}

/// Bytes that look random and are the same in every run, so that replies can
/// be compared letter by letter: SplitMix64 over a counter.
#[derive(Clone)]
pub struct Random(Rc<Cell<u64>>);

impl Random {
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        for chunk in bytes.chunks_mut(8) {
            let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
            self.0.set(state);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^= mixed >> 31;
            for (target, source) in chunk.iter_mut().zip(mixed.to_le_bytes()) {
                *target = source;
            }
        }
        Ok(())
    }
}

/// Log lines, kept for a test to read.
#[derive(Clone, Default)]
pub struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub fn write(&self, line: &str) {
        self.0.borrow_mut().push(line.to_owned());
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// Variables and secrets of the Worker.
#[derive(Clone, Default)]
pub struct Vars(Rc<RefCell<BTreeMap<String, String>>>);

impl Vars {
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.borrow().get(name).cloned()
    }

    pub fn set(&self, name: &str, value: &str) {
        self.0.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    pub fn remove(&self, name: &str) {
        self.0.borrow_mut().remove(name);
    }
}

/// Header fields of a request, names in lower case.
#[derive(Clone, Default)]
pub struct Headers(HashMap<String, String>);

impl Headers {
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_ascii_lowercase(), value.to_owned());
    }
}

/// Content type and bytes of files, by path.
type Files = BTreeMap<String, (String, Vec<u8>)>;

/// Files served beside the Worker.
#[derive(Clone, Default)]
pub struct Assets(Rc<RefCell<Files>>);

impl Assets {
    pub async fn get(&self, path: &str) -> Result<Option<Asset>, Error> {
        Ok(self.0.borrow().get(path).map(|(content_type, bytes)| Asset {
            content_type: content_type.clone(),
            bytes: bytes.clone(),
        }))
    }

    pub fn put(&self, path: &str, content_type: &str, bytes: &[u8]) {
        self.0.borrow_mut().insert(path.to_owned(), (content_type.to_owned(), bytes.to_vec()));
    }
}

/// Everything outside, in one value. Clones share the same world.
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
    /// An empty world at `now_ms`, its database holding `schema` (the
    /// migrations, in order, as name and SQL).
    pub fn new(now_ms: i64, schema: &[(&str, &str)]) -> Result<Self, Error> {
        let clock = Clock::default();
        clock.set_ms(now_ms);
        Ok(Self {
            database: Database::new(schema, now_ms)?,
            kv: KeyValue::new(clock.clone()),
            bucket: Bucket::default(),
            objects: Objects::default(),
            outbound: Outbound::default(),
            clock,
            random: Random(Rc::new(Cell::new(0))),
            log: Log::default(),
            vars: Vars::default(),
            assets: Assets::default(),
        })
    }

    /// Faults that have not happened do not happen any more.
    pub fn forget_faults(&self) {
        self.database.forget_faults();
        self.objects.forget_faults();
        self.bucket.forget_faults();
    }

    /// Bytes of WebAssembly memory; the host has none.
    pub fn wasm_memory_bytes(&self) -> Option<u64> {
        None
    }
}
