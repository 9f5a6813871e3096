//! D1: a deadline on every call, one repetition of a SELECT, none of a write.

use super::bindings::{D1Database, D1Statement};
use super::js::{self, Bindings};
use crate::platform::sql::{Applied, Row, Statement};
use crate::platform::{DATABASE_DEADLINE_MS, Error, ErrorKind};
use js_sys::{Array, Object};
use std::cell::Cell;
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};

const BINDING: &str = "DB";

#[derive(Clone)]
pub struct Database {
    bindings: Bindings,
    /// Bytes of the database as the latest answer told.
    size_bytes: Rc<Cell<Option<u64>>>,
}

impl Database {
    pub(super) fn new(bindings: Bindings) -> Self {
        Self { bindings, size_bytes: Rc::default() }
    }

    /// Bytes of the database, where they are known.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes.get()
    }

    /// Rows of one SELECT. Repeated once if it fails in passing, within the
    /// same deadline.
    pub async fn query(&self, statement: Statement) -> Result<Vec<Row>, Error> {
        within_deadline(async {
            match self.select(&statement).await {
                Err(error) if error.kind == ErrorKind::Unavailable => self.select(&statement).await,
                other => other,
            }
        })
        .await
    }

    /// All of the statements or none of them. Never repeated: after an error
    /// or a timeout nobody knows whether they took effect.
    pub async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<Applied>, Error> {
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        within_deadline(async {
            let database = self.database()?;
            let prepared: Array =
                statements.iter().map(|s| prepare(&database, s)).collect::<Result<_, _>>()?;
            let promise = database.batch(&prepared).map_err(|e| js::sql_error(&e))?;
            let results = promise.await.map_err(|e| js::sql_error(&e))?;
            Array::from(&results).iter().map(|result| self.applied(&result)).collect()
        })
        .await
    }

    async fn select(&self, statement: &Statement) -> Result<Vec<Row>, Error> {
        let prepared = prepare(&self.database()?, statement)?;
        let promise = prepared.all().map_err(|e| js::sql_error(&e))?;
        Ok(self.applied(&promise.await.map_err(|e| js::sql_error(&e))?)?.rows)
    }

    fn applied(&self, result: &JsValue) -> Result<Applied, Error> {
        let meta = js::field(result, "meta");
        if let Some(bytes) = js::field(&meta, "size_after").as_f64() {
            self.size_bytes.set(Some(bytes as u64));
        }
        let changes = js::field(&meta, "changes").as_f64().unwrap_or(0.0);
        Ok(Applied { changes: changes as u64, rows: rows(result)? })
    }

    fn database(&self) -> Result<D1Database, Error> {
        self.bindings.get(BINDING)
    }
}

async fn within_deadline<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    js::within(DATABASE_DEADLINE_MS, work).await.unwrap_or_else(|| {
        let message = format!("D1 did not answer within {DATABASE_DEADLINE_MS} ms");
        Err(Error::new(ErrorKind::Timeout, message))
    })
}

fn prepare(database: &D1Database, statement: &Statement) -> Result<D1Statement, Error> {
    let values = js::parameters(&statement.values)?;
    let prepared = database.prepare(&statement.sql).map_err(|e| js::sql_error(&e))?;
    if statement.values.is_empty() {
        return Ok(prepared);
    }
    prepared.bind(&values).map_err(|e| js::sql_error(&e))
}

/// D1 gives each row as an object, all of one result with the same keys in
/// the same order.
fn rows(result: &JsValue) -> Result<Vec<Row>, Error> {
    let results = js::field(result, "results");
    if !Array::is_array(&results) {
        return Ok(Vec::new());
    }
    let results: Array = results.unchecked_into();
    let mut columns: Option<Rc<[String]>> = None;
    let mut rows = Vec::with_capacity(results.length() as usize);
    for row in results.iter() {
        let row: Object = row.unchecked_into();
        let columns = columns.get_or_insert_with(|| js::strings(&Object::keys(&row)));
        let values: Result<_, Error> =
            Object::values(&row).iter().map(|value| js::from_js(&value)).collect();
        rows.push(Row::new(Rc::clone(columns), values?));
    }
    Ok(rows)
}
