//! R2 on the host: bytes by key, with faults on demand.

use super::{Fault, Faults};
use crate::platform::{Error, ErrorKind, Listing};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Keys on a page of a listing; small, so that tests see more than one.
const PAGE: usize = 10;

#[derive(Clone, Default)]
pub struct Bucket {
    objects: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    faults: Faults,
    calls: Rc<Cell<u64>>,
}

impl Bucket {
    pub async fn put(&self, key: &str, bytes: &[u8], _sha256: &str) -> Result<(), Error> {
        self.with_faults(&format!("put {key}"), || {
            self.objects.borrow_mut().insert(key.to_owned(), bytes.to_vec());
        })
    }

    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.with_faults(&format!("get {key}"), || self.objects.borrow().get(key).cloned())
    }

    pub async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<Listing, Error> {
        self.with_faults(&format!("list {prefix}"), || {
            let objects = self.objects.borrow();
            let after = cursor.unwrap_or_default();
            let mut found =
                objects.keys().filter(|key| key.starts_with(prefix) && key.as_str() > after);
            let keys: Vec<String> = found.by_ref().take(PAGE).cloned().collect();
            let cursor = keys.last().filter(|_| found.next().is_some()).cloned();
            Listing { cursor, keys }
        })
    }

    pub async fn delete(&self, keys: &[String]) -> Result<(), Error> {
        self.with_faults(&format!("delete {}", keys.join(" ")), || {
            self.objects.borrow_mut().retain(|key, _| !keys.contains(key));
        })
    }

    /// The next call whose `put key`, `get key` … holds `needle` fails.
    pub fn inject(&self, needle: &str, fault: Fault) {
        self.faults.add(needle, fault);
    }

    pub(super) fn forget_faults(&self) {
        self.faults.clear();
    }

    /// Everything in it, for a test to look at, damage or carry elsewhere.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.objects.borrow().clone()
    }

    pub fn set_contents(&self, contents: BTreeMap<String, Vec<u8>>) {
        *self.objects.borrow_mut() = contents;
    }

    /// Calls so far, for tests that count them.
    pub fn calls(&self) -> u64 {
        self.calls.get()
    }

    fn with_faults<T>(&self, call: &str, work: impl FnOnce() -> T) -> Result<T, Error> {
        self.calls.set(self.calls.get() + 1);
        let fault = self.faults.take(call);
        let failed = |what| Err(Error::new(ErrorKind::Unavailable, format!("injected: {what}")));
        if fault == Some(Fault::Lost) {
            return failed("R2 unreachable");
        }
        let done = work();
        if fault == Some(Fault::LandedButErrored) { failed("reply of R2 lost") } else { Ok(done) }
    }
}
