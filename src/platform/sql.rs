//! Statements and rows, for D1 and for the SQLite inside an object alike.

use super::{Error, ErrorKind};
use std::borrow::Cow;
use std::rc::Rc;

/// D1 and Durable Objects bind at most 100 parameters a statement.
pub const MAX_PARAMETERS: usize = 100;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    /// Numbers cross into JavaScript: 53 bits are safe.
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

macro_rules! value_from {
    ($($from:ty => |$name:ident| $to:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($name: $from) -> Self { $to }
        }
    )*};
}

value_from! {
    i64 => |v| Value::Integer(v);
    u32 => |v| Value::Integer(i64::from(v));
    u64 => |v| Value::Integer(i64::try_from(v).unwrap_or(i64::MAX));
    bool => |v| Value::Integer(i64::from(v));
    f64 => |v| Value::Real(v);
    String => |v| Value::Text(v);
    &str => |v| Value::Text(v.to_owned());
    Vec<u8> => |v| Value::Blob(v);
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// One SQL statement with the values of its `?1 … ?n`.
#[derive(Clone, Debug)]
pub struct Statement {
    pub sql: Cow<'static, str>,
    pub values: Vec<Value>,
}

impl Statement {
    pub fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self { sql: sql.into(), values: Vec::new() }
    }

    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }
}

/// What one statement of a batch did.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Rows inserted, changed or deleted.
    pub changes: u64,
    /// Rows of a SELECT or of RETURNING.
    pub rows: Vec<Row>,
}

/// One row of a result.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Rc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub fn new(columns: Rc<[String]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// Every column with its value, in the order of the statement.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.columns.iter().map(String::as_str).zip(&self.values)
    }

    fn value(&self, column: &str) -> Result<&Value, Error> {
        self.columns
            .iter()
            .position(|name| name == column)
            .and_then(|index| self.values.get(index))
            .ok_or_else(|| Error::new(ErrorKind::Misuse, format!("no column {column} in the row")))
    }

    /// The column as `T`. A value of another type is a defect in the schema
    /// or in the query, so it is an error and never a default.
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T, Error> {
        let value = self.value(column)?;
        T::from_value(value).ok_or_else(|| {
            Error::new(
                ErrorKind::Misuse,
                format!("column {column} is not a {}", std::any::type_name::<T>()),
            )
        })
    }

    /// A column that holds JSON text.
    pub fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T, Error> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text).map_err(|error| {
            Error::new(ErrorKind::Misuse, format!("column {column} holds unreadable JSON: {error}"))
        })
    }
}

pub trait FromValue: Sized {
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).and_then(|number| u64::try_from(number).ok())
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).map(|number| number != 0)
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Real(number) => Some(*number),
            // JavaScript has one number type, so 4.0 comes back as 4.
            Value::Integer(number) => Some(*number as f64),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Blob(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}
