//! Rows of any table as lines of JSON, gzipped, and back: for D1 and for the
//! SQLite of an object alike. No table is known by name here.

use super::backups::file_key;
use crate::domain::backup::BackupFile;
use crate::platform::sql::{MAX_PARAMETERS, Row, Statement, Value};
use crate::platform::{Bucket, Error, ErrorKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// A file is closed at the row with which it reaches this many bytes, before
/// they are packed. It is in memory whole, of which an isolate has 128 MB.
const FULL_BYTES: usize = 4 << 20;

/// Nothing that we wrote is longer; the rest would be a bomb.
const MAX_UNPACKED_BYTES: u64 = 64 << 20;

/// Rows of one SELECT.
pub const PAGE_ROWS: u32 = 2_000;

/// A fast level: the next would take twice the time for a tenth less.
const LEVEL: u32 = 4;

/// Column that holds the rowid where that is the key.
const ROWID: &str = "@rowid";

#[derive(Serialize)]
struct LineOut<'a> {
    table: &'a str,
    row: Map<String, Json>,
}

/// One row read back.
#[derive(Deserialize)]
pub struct Line {
    pub table: String,
    pub row: Map<String, Json>,
}

/// The lines of a file of a set, which must be as the manifest has it.
///
/// # Errors
/// What differs, beside those of the bucket.
pub async fn read(bucket: &Bucket, set: &str, file: &BackupFile) -> Result<String, Error> {
    let bytes = bucket.get(&file_key(set, &file.name)).await?;
    match defect(file, bytes.as_deref()) {
        Some(defect) => Err(Error::new(ErrorKind::Misuse, format!("{} {defect}", file.name))),
        None => unpack(&bytes.unwrap_or_default()),
    }
}

/// A file in the making.
pub struct Packer {
    packed: GzEncoder<Vec<u8>>,
    bytes: usize,
    tables: BTreeMap<String, u64>,
}

impl Default for Packer {
    fn default() -> Self {
        let packed = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
        Self { packed, bytes: 0, tables: BTreeMap::new() }
    }
}

impl Packer {
    pub fn push(&mut self, table: &str, row: &Row) -> Result<(), Error> {
        let columns = row.columns().filter(|(name, _)| *name != ROWID);
        let row = columns.map(|(name, value)| (name.to_owned(), to_json(value))).collect();
        let mut line = serde_json::to_vec(&LineOut { table, row }).map_err(unreadable)?;
        line.push(b'\n');
        self.packed.write_all(&line).map_err(unreadable)?;
        self.bytes += line.len();
        match self.tables.get_mut(table) {
            Some(rows) => *rows += 1,
            None => {
                self.tables.insert(table.to_owned(), 1);
            }
        }
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The bytes to store, and what the manifest says of them.
    pub fn finish(self, of: &str, name: String) -> Result<(BackupFile, Vec<u8>), Error> {
        let bytes = self.packed.finish().map_err(unreadable)?;
        let file = BackupFile {
            name,
            of: of.to_owned(),
            rows: self.tables.values().sum(),
            tables: self.tables,
            bytes: bytes.len() as u64,
            sha256: sha256_hex(&bytes),
        };
        Ok((file, bytes))
    }
}

pub use crate::domain::hex::sha256_hex;

/// The lines of a file, unpacked.
pub fn unpack(bytes: &[u8]) -> Result<String, Error> {
    let mut text = String::new();
    let mut unpacked = GzDecoder::new(bytes).take(MAX_UNPACKED_BYTES);
    unpacked.read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

pub fn line(text: &str) -> Result<Line, Error> {
    serde_json::from_str(text).map_err(unreadable)
}

/// What is wrong with the stored bytes of a file; `None`: nothing.
pub fn defect(file: &BackupFile, bytes: Option<&[u8]>) -> Option<String> {
    let Some(bytes) = bytes else { return Some("is not in the bucket".to_owned()) };
    if sha256_hex(bytes) != file.sha256 {
        return Some("does not have the SHA-256 of the manifest".to_owned());
    }
    let mut tables: BTreeMap<String, u64> = BTreeMap::new();
    let counted = unpack(bytes).and_then(|text| {
        for text in text.lines() {
            *tables.entry(line(text)?.table).or_default() += 1;
        }
        Ok(())
    });
    match counted {
        Err(_) => Some("cannot be read".to_owned()),
        Ok(()) if tables != file.tables => {
            Some("does not have the rows of the manifest".to_owned())
        }
        Ok(()) => None,
    }
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Misuse, format!("rows of a backup: {error}"))
}

/// A blob is an object of one field, which no other value of SQLite is.
fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(number) => (*number).into(),
        Value::Real(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Blob(bytes) => serde_json::json!({ "base64": STANDARD.encode(bytes) }),
    }
}

fn from_json(value: &Json) -> Result<Value, Error> {
    Ok(match value {
        Json::Null => Value::Null,
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Real(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Object(fields) => match fields.get("base64").and_then(Json::as_str) {
            Some(text) => Value::Blob(STANDARD.decode(text).map_err(unreadable)?),
            None => return Err(unreadable("an object that is no blob")),
        },
        Json::Bool(_) | Json::Array(_) => return Err(unreadable("a value of no type of SQLite")),
    })
}

/// Where in a table a page begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    pub table: String,
    /// Columns by which the table is read, unique together.
    key: Vec<String>,
    /// Rows above this value of a column are newer than the backup.
    upto: Option<(String, i64)>,
    after: Vec<Json>,
}

impl Position {
    /// The beginning of a table, by its primary key.
    pub fn by_key(table: &str, key: Vec<String>) -> Self {
        let key = if key.is_empty() { vec!["rowid".to_owned()] } else { key };
        Self { table: table.to_owned(), key, upto: None, after: Vec::new() }
    }

    /// The beginning, of the rows up to this value of a column.
    pub fn upto(mut self, column: &str, mark: i64) -> Self {
        self.upto = Some((column.to_owned(), mark));
        self
    }

    pub fn page(&self) -> Statement {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        if let Some((column, mark)) = &self.upto {
            values.push(Value::Integer(*mark));
            conditions.push(format!("{} <= ?1", quoted(column)));
        }
        let key = self.key.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
        if !self.after.is_empty() {
            let first = values.len();
            values.extend(self.after.iter().map(|value| from_json(value).unwrap_or(Value::Null)));
            let marks: Vec<_> = (first..values.len()).map(|i| format!("?{}", i + 1)).collect();
            conditions.push(format!("({key}) > ({})", marks.join(", ")));
        }
        let all = if self.key == ["rowid"] { "rowid AS \"@rowid\", *" } else { "*" };
        let condition =
            if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
        let sql = format!(
            "SELECT {all} FROM {} WHERE {condition} ORDER BY {key} LIMIT {PAGE_ROWS}",
            quoted(&self.table)
        );
        let mut statement = Statement::new(sql);
        statement.values = values;
        statement
    }

    /// The position after this row.
    pub fn advance(&mut self, row: &Row) {
        let by_rowid = self.key == ["rowid"];
        let name = |column: &String| if by_rowid { ROWID.to_owned() } else { column.clone() };
        let names: Vec<String> = self.key.iter().map(name).collect();
        self.after = names
            .iter()
            .filter_map(|name| row.columns().find(|(column, _)| column == name))
            .map(|(_, value)| to_json(value))
            .collect();
    }
}

fn quoted(name: &str) -> String {
    // A quoted "rowid" is the same column.
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Collects rows into as few INSERTs as the limit of parameters allows. A row
/// that is there already stays, so that a page may be loaded again.
#[derive(Default)]
pub struct Inserts {
    done: Vec<Statement>,
    open: Option<(String, Vec<String>, Vec<Value>)>,
}

impl Inserts {
    pub fn push(&mut self, line: &Line) -> Result<(), Error> {
        let columns: Vec<String> = line.row.keys().cloned().collect();
        let fits = self.open.as_ref().is_some_and(|(table, known, values)| {
            *table == line.table
                && *known == columns
                && values.len() + columns.len() <= MAX_PARAMETERS
        });
        if !fits {
            self.close();
        }
        let (_, _, values) =
            self.open.get_or_insert_with(|| (line.table.clone(), columns, Vec::new()));
        for value in line.row.values() {
            values.push(from_json(value)?);
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.done.len()
    }

    pub fn is_empty(&self) -> bool {
        self.done.is_empty() && self.open.is_none()
    }

    /// What is complete so far.
    pub fn take(&mut self) -> Vec<Statement> {
        std::mem::take(&mut self.done)
    }

    pub fn finish(mut self) -> Vec<Statement> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        let Some((table, columns, values)) = self.open.take() else { return };
        let names: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
        let width = columns.len().max(1);
        let rows: Vec<String> = (0..values.len() / width)
            .map(|row| {
                let marks: Vec<_> =
                    (0..width).map(|column| format!("?{}", row * width + column + 1)).collect();
                format!("({})", marks.join(", "))
            })
            .collect();
        let mut statement = Statement::new(format!(
            "INSERT INTO {} ({}) VALUES {} ON CONFLICT DO NOTHING",
            quoted(&table),
            names.join(", "),
            rows.join(", ")
        ));
        statement.values = values;
        self.done.push(statement);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::Integer),
            prop::num::f64::NORMAL.prop_map(Value::Real),
            ".{0,40}".prop_map(Value::Text),
            prop::collection::vec(any::<u8>(), 0..60).prop_map(Value::Blob),
        ]
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(rows in prop::collection::vec(prop::collection::vec(value(), 3), 0..60)) {
            let columns: std::rc::Rc<[String]> = ["a", "b", "c"].map(str::to_owned).into();
            let mut packer = Packer::default();
            for values in &rows {
                packer.push("t", &Row::new(std::rc::Rc::clone(&columns), values.clone())).unwrap();
            }
            let (file, bytes) = packer.finish("DB", "1".to_owned()).unwrap();
            prop_assert_eq!(file.rows, rows.len() as u64);
            prop_assert_eq!(defect(&file, Some(&bytes)), None);
            let mut inserts = Inserts::default();
            for text in unpack(&bytes).unwrap().lines() {
                inserts.push(&line(text).unwrap()).unwrap();
            }
            let statements = inserts.finish();
            prop_assert!(statements.iter().all(|s| s.values.len() <= MAX_PARAMETERS));
            let back: Vec<Value> = statements.into_iter().flat_map(|s| s.values).collect();
            prop_assert_eq!(back, rows.concat());
        }
    }

    #[test]
    fn damage_is_found() {
        let columns: std::rc::Rc<[String]> = ["a"].map(str::to_owned).into();
        let mut packer = Packer::default();
        packer.push("t", &Row::new(columns, vec![Value::Integer(1)])).unwrap();
        let (file, mut bytes) = packer.finish("DB", "1".to_owned()).unwrap();
        let fewer = BackupFile { tables: [("t".to_owned(), 2)].into(), ..file.clone() };
        assert!(defect(&fewer, Some(&bytes)).unwrap().contains("rows"));
        bytes[12] ^= 1;
        assert!(defect(&file, Some(&bytes)).unwrap().contains("SHA-256"));
        assert!(defect(&file, None).unwrap().contains("not in the bucket"));
    }
}
