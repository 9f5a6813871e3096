//! What an object knows beside its rows: a few values, each stored as JSON
//! under a name and written whole.

use super::write;
use crate::platform::{Error, ObjectStorage};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub struct Facts(ObjectStorage);

impl Facts {
    /// Makes the table where there is none.
    pub fn new(storage: &ObjectStorage) -> Result<Self, Error> {
        storage.query(
            "CREATE TABLE IF NOT EXISTS facts (
                 name TEXT NOT NULL PRIMARY KEY,
                 value TEXT NOT NULL
             ) STRICT, WITHOUT ROWID",
            &[],
        )?;
        Ok(Self(storage.clone()))
    }

    /// `None`: it was never set. (What was set to null is a value.)
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let rows = self.0.query("SELECT value FROM facts WHERE name = ?1", &[name.into()])?;
        rows.first().map(|row| row.json("value")).transpose()
    }

    pub fn set(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        self.0.query(
            "INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)",
            &[name.into(), write(value)?.into()],
        )?;
        Ok(())
    }
}
