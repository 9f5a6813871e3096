//! Durable Objects in process: one SQLite each, one instance each until it is
//! evicted, the code of the instance handed in by whoever builds the world.

use super::database::{open, run, sql_error};
use super::{Fault, Faults};
use crate::platform::sql::{Row, Value};
use crate::platform::{Error, ErrorKind};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use rusqlite::Connection;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// An instance of some class of object: takes a command, gives a reply, both
/// as JSON text.
pub trait ObjectBody {
    fn handle(self: Rc<Self>, command: String) -> LocalBoxFuture<'static, Result<String, Error>>;
    fn alarm(self: Rc<Self>) -> LocalBoxFuture<'static, ()>;
}

/// Makes the instance of a class over its storage.
pub type ObjectFactory = Rc<dyn Fn(&str, ObjectStorage) -> Result<Rc<dyn ObjectBody>, Error>>;

type Address = (String, String);

#[derive(Clone, Default)]
pub struct Objects {
    factory: Rc<RefCell<Option<ObjectFactory>>>,
    storages: Rc<RefCell<HashMap<Address, ObjectStorage>>>,
    instances: Rc<RefCell<HashMap<Address, Rc<dyn ObjectBody>>>>,
    /// By class.
    calls: Rc<RefCell<HashMap<String, u64>>>,
    faults: Faults,
}

impl Objects {
    /// Tells the world which code its objects run.
    pub fn install(&self, factory: ObjectFactory) {
        *self.factory.borrow_mut() = Some(factory);
    }

    /// Sends a command to the object of this class and name.
    pub async fn call(&self, binding: &str, name: &str, command: String) -> Result<String, Error> {
        *self.calls.borrow_mut().entry(binding.to_owned()).or_default() += 1;
        let fault = self.faults.take(&format!("{binding}/{name} {command}"));
        if fault == Some(Fault::Lost) {
            return Err(Error::new(ErrorKind::Unavailable, "injected: object call lost"));
        }
        let instance = self.instance(binding, name)?;
        let reply = instance.handle(command).await?;
        if fault == Some(Fault::LandedButErrored) {
            return Err(Error::new(ErrorKind::Unavailable, "injected: reply of the object lost"));
        }
        Ok(reply)
    }

    /// As [`Objects::call`]: nothing takes time here.
    pub async fn call_within(
        &self,
        _deadline_ms: u32,
        binding: &str,
        name: &str,
        command: String,
    ) -> Result<String, Error> {
        self.call(binding, name, command).await
    }

    /// Rings every alarm that is due at `now_ms`, in the order of their times.
    /// How many there were.
    pub async fn ring(&self, now_ms: i64) -> Result<usize, Error> {
        let mut due: Vec<(i64, Address)> = (self.storages.borrow().iter())
            .filter_map(|(address, storage)| Some((storage.alarm.get()?, address.clone())))
            .filter(|(at_ms, _)| *at_ms <= now_ms)
            .collect();
        due.sort();
        for (_, (binding, name)) in &due {
            let instance = self.instance(binding, name)?;
            let storage = self.storages.borrow().get(&(binding.clone(), name.clone())).cloned();
            if let Some(storage) = storage {
                storage.alarm.set(None);
            }
            instance.alarm().await;
        }
        Ok(due.len())
    }

    /// Rings every alarm that is due, and evicts the objects where their code
    /// first waits for something.
    pub fn ring_and_evict(&self, now_ms: i64) {
        let _ = self.ring(now_ms).now_or_never();
        self.evict_all();
    }

    /// When the next alarm rings.
    pub fn next_alarm_ms(&self) -> Option<i64> {
        self.storages.borrow().values().filter_map(|storage| storage.alarm.get()).min()
    }

    /// Loses every alarm, as the platform does after six failures.
    pub fn forget_alarms(&self) {
        self.storages.borrow().values().for_each(|storage| storage.alarm.set(None));
    }

    /// All that an object has stored, as text to search in.
    ///
    /// # Errors
    /// Of reading it.
    pub fn dump(&self, binding: &str, name: &str) -> Result<String, Error> {
        let address = (binding.to_owned(), name.to_owned());
        let storage = self.storages.borrow().get(&address).cloned();
        let Some(storage) = storage else { return Ok(String::new()) };
        let mut text = String::new();
        for table in storage.query("SELECT name FROM sqlite_master WHERE type = 'table'", &[])? {
            let sql = format!("SELECT * FROM {}", table.get::<String>("name")?);
            text.push_str(&format!("{:?}\n", storage.query(&sql, &[])?));
        }
        Ok(text)
    }

    /// Calls of objects of a class so far, for tests that count them.
    pub fn calls(&self, binding: &str) -> u64 {
        self.calls.borrow().get(binding).copied().unwrap_or_default()
    }

    /// Names of the objects of a class that hold something.
    pub fn stored(&self, binding: &str) -> Vec<String> {
        let storages = self.storages.borrow();
        let held = storages.iter().filter(|((class, _), storage)| {
            class == binding && !storage.is_empty().unwrap_or_default()
        });
        let mut names: Vec<String> = held.map(|((_, name), _)| name.clone()).collect();
        names.sort();
        names
    }

    /// The next call whose `BINDING/name {command}` holds `needle` fails.
    pub fn inject(&self, needle: &str, fault: Fault) {
        self.faults.add(needle, fault);
    }

    /// Faults that have not happened yet never will.
    pub fn forget_faults(&self) {
        self.faults.clear();
    }

    /// Forgets every instance, as the platform does without notice; what was
    /// stored stays.
    pub fn evict_all(&self) {
        self.instances.borrow_mut().clear();
    }

    fn instance(&self, binding: &str, name: &str) -> Result<Rc<dyn ObjectBody>, Error> {
        let address = (binding.to_owned(), name.to_owned());
        if let Some(instance) = self.instances.borrow().get(&address) {
            return Ok(Rc::clone(instance));
        }
        let storage = match self.storages.borrow_mut().entry(address.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.get().clone(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(ObjectStorage::new()?).clone()
            }
        };
        let factory = self.factory.borrow().clone();
        let factory = factory
            .ok_or_else(|| Error::new(ErrorKind::Misuse, "no code installed for the objects"))?;
        let instance = factory(binding, storage)?;
        self.instances.borrow_mut().insert(address, Rc::clone(&instance));
        Ok(instance)
    }
}

/// The SQLite of one object. Calls are synchronous, as on the platform.
#[derive(Clone)]
pub struct ObjectStorage {
    connection: Rc<RefCell<Connection>>,
    alarm: Rc<Cell<Option<i64>>>,
}

impl ObjectStorage {
    fn new() -> Result<Self, Error> {
        Ok(Self { connection: Rc::new(RefCell::new(open()?)), alarm: Rc::default() })
    }

    /// Sets the one alarm of the object, in place of an earlier one.
    pub async fn set_alarm_ms(&self, at_ms: i64) -> Result<(), Error> {
        self.alarm.set(Some(at_ms));
        Ok(())
    }

    /// Deletes everything, tables and alarm included.
    pub async fn delete_all(&self) -> Result<(), Error> {
        self.alarm.set(None);
        for row in self.query("SELECT name FROM sqlite_master WHERE type = 'table'", &[])? {
            self.query(&format!("DROP TABLE {}", row.get::<String>("name")?), &[])?;
        }
        Ok(())
    }

    fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.query("SELECT name FROM sqlite_master LIMIT 1", &[])?.is_empty())
    }

    pub fn query(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Error> {
        run(&self.connection.borrow(), sql, values).map(|applied| applied.rows)
    }

    /// Runs `work` so that all of its writes are kept, or none if it fails.
    pub fn transaction<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.connection.borrow().execute_batch("SAVEPOINT work").map_err(sql_error)?;
        let outcome = work();
        let end = if outcome.is_ok() { "RELEASE work" } else { "ROLLBACK TO work; RELEASE work" };
        self.connection.borrow().execute_batch(end).map_err(sql_error)?;
        outcome
    }

    /// Bytes of this object's database.
    pub fn size_bytes(&self) -> Result<u64, Error> {
        let sql = "SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size";
        self.query(sql, &[])?.first().map_or(Ok(0), |row| row.get("bytes"))
    }
}
