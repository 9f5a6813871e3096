//! D1 as SQLite on the host, with D1's limits and with faults on demand.

use super::{Fault, Faults};
use crate::platform::sql::{Applied, MAX_PARAMETERS, Row, Statement, Value};
use crate::platform::{Error, ErrorKind};
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// D1 refuses a statement longer than this.
const MAX_STATEMENT_BYTES: usize = 100_000;

#[derive(Clone)]
pub struct Database {
    connection: Rc<RefCell<Connection>>,
    faults: Faults,
    statements: Rc<Cell<u64>>,
}

impl Database {
    pub(super) fn new(schema: &[(&str, &str)], now_ms: i64) -> Result<Self, Error> {
        let connection = open()?;
        // The table in which wrangler records what it applied.
        connection
            .execute_batch(
                "CREATE TABLE d1_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, \
                 name TEXT UNIQUE, applied_at TIMESTAMP NOT NULL)",
            )
            .map_err(sql_error)?;
        for (name, sql) in schema {
            connection.execute_batch(sql).map_err(sql_error)?;
            connection
                .execute(
                    "INSERT INTO d1_migrations (name, applied_at) VALUES (?1, ?2)",
                    (name, now_ms),
                )
                .map_err(sql_error)?;
        }
        Ok(Self {
            connection: Rc::new(RefCell::new(connection)),
            faults: Faults::default(),
            statements: Rc::new(Cell::new(0)),
        })
    }

    /// Rows of one SELECT. Repeated once if it fails in passing.
    pub async fn query(&self, statement: Statement) -> Result<Vec<Row>, Error> {
        match self.once(std::slice::from_ref(&statement)) {
            Err(error) if error.kind == ErrorKind::Unavailable => self.once(&[statement]),
            other => other,
        }
        .map(|mut applied| applied.pop().unwrap_or_default().rows)
    }

    /// All of the statements or none of them. Never repeated.
    pub async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<Applied>, Error> {
        self.once(&statements)
    }

    /// Bytes of the database, where they are known.
    pub fn size_bytes(&self) -> Option<u64> {
        let sql = "SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size";
        let applied = run(&self.connection.borrow(), sql, &[]).ok()?;
        applied.rows.first()?.get("bytes").ok()
    }

    /// The next statement whose SQL holds `needle` fails in this way.
    pub fn inject(&self, needle: &str, fault: Fault) {
        self.faults.add(needle, fault);
    }

    /// Faults that have not happened yet never will.
    pub fn forget_faults(&self) {
        self.faults.clear();
    }

    /// Statements run since the start, for tests that count them.
    pub fn statements_run(&self) -> u64 {
        self.statements.get()
    }

    fn once(&self, statements: &[Statement]) -> Result<Vec<Applied>, Error> {
        self.statements.set(self.statements.get() + statements.len() as u64);
        let fault = statements.iter().find_map(|statement| self.faults.take(&statement.sql));
        if fault == Some(Fault::Lost) {
            return Err(Error::new(ErrorKind::Unavailable, "injected: statement lost"));
        }
        let mut connection = self.connection.borrow_mut();
        let transaction = connection.transaction().map_err(sql_error)?;
        let mut applied = Vec::with_capacity(statements.len());
        for statement in statements {
            if statement.sql.len() > MAX_STATEMENT_BYTES {
                return Err(Error::new(ErrorKind::Misuse, "statement over 100 KB"));
            }
            applied.push(run(&transaction, &statement.sql, &statement.values)?);
        }
        transaction.commit().map_err(sql_error)?;
        if fault == Some(Fault::LandedButErrored) {
            return Err(Error::new(ErrorKind::Unavailable, "injected: landed but errored"));
        }
        Ok(applied)
    }
}

pub(super) fn open() -> Result<Connection, Error> {
    let connection = Connection::open_in_memory().map_err(sql_error)?;
    connection.execute_batch("PRAGMA foreign_keys = ON").map_err(sql_error)?;
    // As D1 and Durable Objects have it.
    connection.set_limit(Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5).map_err(sql_error)?;
    Ok(connection)
}

/// Runs one statement on either kind of SQLite.
pub(super) fn run(connection: &Connection, sql: &str, values: &[Value]) -> Result<Applied, Error> {
    if values.len() > MAX_PARAMETERS {
        return Err(Error::new(ErrorKind::Misuse, "over 100 bound parameters"));
    }
    let mut prepared = connection.prepare_cached(sql).map_err(sql_error)?;
    let columns: Rc<[String]> = prepared.column_names().into_iter().map(str::to_owned).collect();
    let before = connection.total_changes();
    let mut rows = Vec::new();
    {
        let mut cursor = prepared.query(params_from_iter(values)).map_err(sql_error)?;
        while let Some(row) = cursor.next().map_err(sql_error)? {
            let mut out = Vec::with_capacity(columns.len());
            for index in 0..columns.len() {
                out.push(match row.get_ref(index).map_err(sql_error)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(number) => Value::Integer(number),
                    ValueRef::Real(number) => Value::Real(number),
                    ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                    ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
                });
            }
            rows.push(Row::new(Rc::clone(&columns), out));
        }
    }
    Ok(Applied { changes: connection.total_changes() - before, rows })
}

pub(super) fn sql_error(error: rusqlite::Error) -> Error {
    Error::from_sql(error.to_string())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            // JavaScript has one number type: what is bound arrives as REAL, and
            // becomes an INTEGER again in a column of that type.
            Value::Integer(number) => ValueRef::Real(*number as f64),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
