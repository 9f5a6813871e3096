//! Workers KV on the host, no kinder than the real one: one write a second
//! per key, and other readers see a change only after the cache time.

use super::{Clock, Fault, Faults};
use crate::platform::{Error, ErrorKind};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

const WRITE_INTERVAL_MS: i64 = 1_000;
const MIN_TTL_S: u64 = 60;
const TOO_MANY: &str = "KV PUT failed: 429 Too Many Requests";

struct Entry {
    value: String,
    written_ms: i64,
    expires_ms: i64,
}

#[derive(Clone)]
pub struct KeyValue {
    entries: Rc<RefCell<HashMap<String, Entry>>>,
    clock: Clock,
    faults: Faults,
    writes: Rc<Cell<u64>>,
}

impl KeyValue {
    pub(super) fn new(clock: Clock) -> Self {
        Self { entries: Rc::default(), clock, faults: Faults::default(), writes: Rc::default() }
    }

    pub async fn get(&self, key: &str) -> Result<Option<String>, Error> {
        self.refuse_if_lost(key)?;
        let now_ms = self.clock.now_ms();
        let entries = self.entries.borrow();
        Ok(entries.get(key).filter(|entry| entry.expires_ms > now_ms).map(|e| e.value.clone()))
    }

    /// `ttl_s` is at least 60.
    pub async fn put(&self, key: &str, value: &str, ttl_s: u64) -> Result<(), Error> {
        self.refuse_if_lost(key)?;
        if ttl_s < MIN_TTL_S {
            return Err(Error::new(ErrorKind::Misuse, "KV keeps an entry for 60 s at least"));
        }
        let now_ms = self.clock.now_ms();
        let mut entries = self.entries.borrow_mut();
        if entries.get(key).is_some_and(|e| now_ms - e.written_ms < WRITE_INTERVAL_MS) {
            return Err(Error::new(ErrorKind::Unavailable, TOO_MANY));
        }
        self.writes.set(self.writes.get() + 1);
        let expires_ms = now_ms + i64::try_from(ttl_s).unwrap_or(i64::MAX / 2_000) * 1_000;
        let entry = Entry { value: value.to_owned(), written_ms: now_ms, expires_ms };
        entries.insert(key.to_owned(), entry);
        Ok(())
    }

    /// A delete counts as a write of the key.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.refuse_if_lost(key)?;
        let now_ms = self.clock.now_ms();
        if let Some(entry) = self.entries.borrow_mut().get_mut(key) {
            if now_ms - entry.written_ms < WRITE_INTERVAL_MS {
                return Err(Error::new(ErrorKind::Unavailable, TOO_MANY));
            }
            *entry = Entry { value: String::new(), written_ms: now_ms, expires_ms: now_ms };
        }
        Ok(())
    }

    /// Keys that hold something, in order.
    pub fn keys(&self) -> Vec<String> {
        let now_ms = self.clock.now_ms();
        let entries = self.entries.borrow();
        let live = entries.iter().filter(|(_, entry)| entry.expires_ms > now_ms);
        let mut keys: Vec<String> = live.map(|(key, _)| key.clone()).collect();
        keys.sort();
        keys
    }

    /// Writes so far, for tests that count them.
    pub fn writes(&self) -> u64 {
        self.writes.get()
    }

    /// The next call for a key that holds `needle` fails.
    pub fn inject(&self, needle: &str) {
        self.faults.add(needle, Fault::Lost);
    }

    fn refuse_if_lost(&self, key: &str) -> Result<(), Error> {
        match self.faults.take(key) {
            Some(_) => Err(Error::new(ErrorKind::Unavailable, "injected: KV unreachable")),
            None => Ok(()),
        }
    }
}
