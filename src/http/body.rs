//! Requests, and the parsing of their bodies into wire types.

use super::problem::{Code, Problem};
use super::strict::{Strict, Unique};
use crate::domain::validation::FieldError;
pub use crate::domain::validation::{whole, whole_required};
use crate::platform::Headers;
use ::http::Method;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

/// Largest request body, in bytes. 500 observations with every field at its
/// longest take under 200 KB, so this leaves room and still bounds an
/// isolate's memory.
pub const MAX_BODY_BYTES: usize = 1 << 20;

pub struct Request {
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub headers: Headers,
    pub body: Body,
}

pub enum Body {
    Whole(Bytes),
    /// Longer than [`MAX_BODY_BYTES`]; the adapter kept nothing of it.
    TooLarge,
}

impl Request {
    /// The body as JSON of type `T`.
    ///
    /// Errors: 413 too large, 415 another media type, 400 not JSON, 422 JSON
    /// of another shape with a pointer to the place.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        read(&self.json_tree()?)
    }

    /// The body as any JSON.
    ///
    /// Errors: as [`Request::json`].
    pub fn json_tree(&self) -> Result<serde_json::Value, Problem> {
        tree(self.json_bytes()?)
    }

    fn json_bytes(&self) -> Result<&[u8], Problem> {
        if !self.media_type().is_some_and(|media| is_json(&media)) {
            return Err(wrong_media("application/json"));
        }
        self.bytes()
    }

    /// The rows of a JSON list, each still to be read.
    ///
    /// Errors: as [`Request::json`].
    pub fn json_rows(&self) -> Result<Vec<&RawValue>, Problem> {
        serde_json::from_slice(self.json_bytes()?).map_err(|error| match error.classify() {
            Category::Data => {
                Problem::invalid(vec![FieldError::new("", "expected a list of rows")])
            }
            _ => malformed(&error),
        })
    }

    /// The body as JSON, or as the form encoding of OAuth 2.
    pub fn json_or_form<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        if self.media_type().as_deref() != Some("application/x-www-form-urlencoded") {
            return self.json();
        }
        let mut fields = serde_json::Map::new();
        for (name, value) in url::form_urlencoded::parse(self.bytes()?) {
            let pointer = pointer_token(&name);
            if fields.insert(name.into_owned(), value.into_owned().into()).is_some() {
                return Err(Problem::invalid(vec![FieldError::new(pointer, "was sent twice")]));
            }
        }
        from_json(&serde_json::to_vec(&fields).unwrap_or_default())
    }

    pub fn bytes(&self) -> Result<&[u8], Problem> {
        match &self.body {
            Body::Whole(bytes) => Ok(bytes),
            Body::TooLarge => Err(Problem::new(
                Code::PayloadTooLarge,
                format!("a body may hold at most {MAX_BODY_BYTES} bytes"),
            )),
        }
    }

    /// The media type without its parameters, in lower case.
    fn media_type(&self) -> Option<String> {
        let value = self.headers.get("content-type")?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }
}

fn is_json(media: &str) -> bool {
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

fn wrong_media(expected: &str) -> Problem {
    Problem::new(Code::UnsupportedMediaType, format!("send the body as {expected}"))
        .with_header("accept-post", expected)
}

/// Reads JSON; what is wrong is named with its place.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    read(&tree(bytes)?)
}

/// Reads a tree; what is wrong is named with its place.
pub fn read<T: DeserializeOwned>(tree: &serde_json::Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Strict(tree)).map_err(refused)
}

/// Reads JSON in which no object has two fields of one name: serde_json's own
/// tree would keep the last of them.
pub fn tree(bytes: &[u8]) -> Result<serde_json::Value, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize::<_, Unique>(&mut reader);
    let Unique(tree) = read.map_err(|error| match error.inner().classify() {
        Category::Data => refused(error),
        _ => malformed(error.inner()),
    })?;
    reader.end().map_err(|error| malformed(&error))?;
    Ok(tree)
}

fn refused(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let pointer = pointer(error.path());
    Problem::invalid(vec![field_error(pointer, &error.into_inner())])
}

/// What serde says of a value, without the value: it may be a secret that
/// slipped into the wrong field.
pub fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // The pointer says where, so serde_json's " at line 1 column 2" goes.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head);
    let (said, expected) = match text.rsplit_once(", expected ") {
        Some((said, expected)) => (said, Some(expected)),
        None => (text, None),
    };
    let quotes_a_value = ["invalid type: ", "invalid value: ", "unknown variant "]
        .iter()
        .any(|prefix| said.starts_with(prefix));
    let said = match said.find(['"', '`']) {
        Some(at) if quotes_a_value => said.get(..at).unwrap_or_default().trim_end(),
        _ => said,
    };
    let whole = match expected {
        Some(expected) => format!("{said}, expected {expected}"),
        None => said.to_owned(),
    };
    whole.chars().take(300).collect()
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(Code::MalformedJson, error.to_string())
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&pointer_token(key)),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// One reference token of a JSON Pointer, escaped and cut to a sane length.
fn pointer_token(key: &str) -> String {
    let cut: String = key.chars().take(100).collect();
    format!("/{}", cut.replace('~', "~0").replace('/', "~1"))
}

fn field_error(mut pointer: String, error: &serde_json::Error) -> FieldError {
    let detail = reason(error);
    if let Some(name) = detail.strip_prefix("missing field `").and_then(|t| t.strip_suffix('`')) {
        // The path ends at the object that lacks the field; point at the field.
        pointer.push_str(&pointer_token(name));
    }
    FieldError { pointer, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code)]
        name: String,
        #[allow(dead_code)]
        items: Vec<u8>,
    }

    #[track_caller]
    fn refused(body: &str) -> (u16, String) {
        let problem = from_json::<Sample>(body.as_bytes()).unwrap_err();
        let pointer = problem.errors.first().map(|e| e.pointer.clone()).unwrap_or_default();
        (problem.code.status(), pointer)
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        assert_eq!(refused(r#"{"name": 1, "items": []}"#), (422, "/name".to_owned()));
        assert_eq!(refused(r#"{"name": "a", "items": [1, "x"]}"#), (422, "/items/1".to_owned()));
        assert_eq!(refused(r#"{"name": "a", "items": [1, 300]}"#), (422, "/items/1".to_owned()));
        assert_eq!(refused(r#"{"items": []}"#), (422, "/name".to_owned()));
        assert_eq!(refused(r#"{"name":"a","items":[],"a/b":1}"#), (422, "/a~1b".to_owned()));
    }

    #[test]
    fn an_array_is_not_an_object() {
        #[derive(Debug, Deserialize)]
        struct Outer {
            #[allow(dead_code)]
            inner: Vec<Sample>,
        }
        assert_eq!(refused(r#"["a", [1]]"#), (422, String::new()));
        let nested = from_json::<Outer>(br#"{"inner": [["a", [1]]]}"#).unwrap_err();
        assert_eq!(nested.errors[0].pointer, "/inner/0");
        let deep = "[".repeat(100_000);
        assert_eq!(refused(&deep).0, 400);
        assert_eq!(refused(r#"{"name": "a", "name": "b", "items": []}"#).0, 422);
    }

    #[test]
    fn the_refused_value_is_not_repeated() {
        let body = r#"{"name": "a", "items": ["hunter2, expected x"]}"#;
        let problem = from_json::<Sample>(body.as_bytes()).unwrap_err();
        assert_eq!(problem.errors[0].detail, "invalid type: string, expected u8");
        let problem = from_json::<Sample>(br#"{"name": "a", "items": [-7]}"#).unwrap_err();
        assert_eq!(problem.errors[0].detail, "invalid value: integer, expected u8");
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        let whole = r#"{"name": "a", "items": []} x"#;
        for body in ["", "{", "NaN", r#"{"name": NaN}"#, r#"{"name": 1e999}"#, whole] {
            assert_eq!(refused(body).0, 400, "{}", &body[..body.len().min(20)]);
        }
        assert_eq!(from_json::<Sample>(&[0xff, 0xfe]).unwrap_err().code.status(), 400);
    }
}
