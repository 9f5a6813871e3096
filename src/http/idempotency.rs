//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a write
//! that is repeated with the same key and body is done once and answered the
//! same.
//!
//! The reply is stored in one batch with what it tells of, so there is never
//! the one without the other, whatever message is lost; of two requests at
//! once, one batch is refused and its request gets the other's reply.

use super::app::Cx;
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::domain::time::Timestamp;
use crate::objects::Idempotency;
use crate::platform::Error;
use crate::platform::sql::Statement;
use crate::store::idempotency::{self, Kept};
use ::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

const MAX_KEY_CHARS: usize = 255;

/// What an `Idempotency-Key` may be, as a regular expression of the document:
/// a quoted string in which `"` and `\` are escaped, or a bare one that
/// neither begins with a quote nor ends in a blank.
#[cfg(not(target_arch = "wasm32"))]
pub(super) const IDEMPOTENCY_KEY: &str =
    r#"^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~]([ -~]{0,253}[!-~])?)$"#;

const PAYLOAD_LABEL: &[u8] = b"devskyy-orchestration/idempotency-payload/v1";

/// Fields of a reply that are kept with it.
const KEPT_FIELDS: [&str; 3] = ["content-type", "location", "etag"];

/// A request with its Idempotency-Key; without one, everything here does
/// nothing.
pub struct Once {
    keyed: Option<Keyed>,
}

struct Keyed {
    tenant_id: String,
    scope: [u8; 32],
    /// Of the live signing keys, that which signs first.
    payload_macs: Vec<String>,
}

/// A reply that was given before.
pub struct Earlier {
    pub reply: Reply,
    /// When what it tells of was done.
    pub done_at: Timestamp,
}

impl Once {
    /// # Errors
    /// 400 where the key cannot be read.
    pub fn of(cx: &Cx) -> Result<Self, Problem> {
        let Some(key) = key(cx)? else { return Ok(Self { keyed: None }) };
        let keys = cx.app.verifier.keys();
        let keys = keys.map_err(|defect| Problem::new(Code::NotConfigured, defect.to_string()))?;
        // A body may hold a password, of which no plain hash may be kept.
        let macs = keys.derived(PAYLOAD_LABEL, cx.request.bytes()?);
        Ok(Self {
            keyed: Some(Keyed {
                tenant_id: cx.caller()?.tenant_id().to_owned(),
                scope: scope(cx, &key, |_| true)?,
                payload_macs: macs.map(|mac| URL_SAFE_NO_PAD.encode(mac)).collect(),
            }),
        })
    }

    /// The hash of whose request it is, to what, and with which key.
    pub fn scope(&self) -> Option<&[u8; 32]> {
        self.keyed.as_ref().map(|keyed| &keyed.scope)
    }

    /// The reply that a request with this key got before.
    ///
    /// # Errors
    /// 422 where that had another body.
    pub async fn earlier(&self, cx: &Cx) -> Result<Option<Earlier>, Problem> {
        let Some(keyed) = &self.keyed else { return Ok(None) };
        let database = &cx.app.platform.database;
        let kept = idempotency::find(database, &keyed.tenant_id, &keyed.text(), cx.now).await?;
        let Some(kept) = kept else { return Ok(None) };
        if !keyed.payload_macs.contains(&kept.payload_mac) {
            return Err(reused());
        }
        Ok(Some(Earlier { done_at: kept.created_at, reply: read_back(kept)? }))
    }

    /// The statement that keeps the reply, to stand in one batch with what it
    /// tells of.
    pub fn keep(&self, cx: &Cx, reply: &Reply) -> Option<Statement> {
        let keyed = self.keyed.as_ref()?;
        let fields: Vec<(&str, &str)> = reply
            .headers
            .iter()
            .filter(|(name, _)| KEPT_FIELDS.contains(name))
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let kept = Kept {
            payload_mac: keyed.payload_macs.first().cloned().unwrap_or_default(),
            status: reply.status.as_u16(),
            headers: serde_json::to_string(&fields).unwrap_or_default(),
            body: String::from_utf8_lossy(&reply.body).into_owned(),
            created_at: cx.now,
        };
        Some(idempotency::keep(&keyed.tenant_id, &keyed.text(), &kept))
    }

    /// Whether a batch was refused because the key was taken meanwhile.
    pub fn lost_race(error: &Error) -> bool {
        error.is_constraint(idempotency::KEY_TAKEN)
    }

    /// The reply of the request that was faster.
    ///
    /// # Errors
    /// 409 where it cannot be read yet.
    pub async fn winner(&self, cx: &Cx) -> Result<Earlier, Problem> {
        self.earlier(cx).await?.ok_or_else(|| {
            let detail = "a request with this Idempotency-Key is being carried out; try again";
            Problem::new(Code::Conflict, detail).with_header("retry-after", "1")
        })
    }
}

impl Keyed {
    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.scope)
    }
}

pub fn reused() -> Problem {
    Problem::new(
        Code::IdempotencyMismatch,
        "this Idempotency-Key came with another body before; use a new key",
    )
}

fn read_back(kept: Kept) -> Result<Reply, Problem> {
    let unreadable = |what: &str| Problem::internal(format!("kept reply: {what}"));
    let status = StatusCode::from_u16(kept.status).map_err(|e| unreadable(&e.to_string()))?;
    let fields: Vec<(String, String)> =
        serde_json::from_str(&kept.headers).map_err(|e| unreadable(&e.to_string()))?;
    let mut reply = Reply { body: Bytes::from(kept.body), ..Reply::empty(status) };
    for (name, value) in fields {
        if let Some(known) = KEPT_FIELDS.iter().find(|known| **known == name) {
            reply.set(known, value);
        }
    }
    reply.set("idempotency-replayed", "true");
    Ok(reply)
}

/// The request's key, if it has one.
pub fn key(cx: &Cx) -> Result<Option<String>, Problem> {
    let Some(header) = cx.request.headers.get("idempotency-key") else { return Ok(None) };
    let key = parse_key(&header).ok_or_else(|| {
        Problem::new(
            Code::MalformedRequest,
            "Idempotency-Key: expected 1 to 255 visible ASCII characters, best in double quotes",
        )
    })?;
    Ok(Some(key))
}

/// The hash of the caller, the route, those of its parameters that count, and
/// the key.
pub fn scope(cx: &Cx, key: &str, counts: impl Fn(&str) -> bool) -> Result<[u8; 32], Problem> {
    let mut scope = Sha256::new();
    let parameters = cx.params.iter().filter(|(name, _)| counts(name));
    let parts = [cx.caller()?.id(), cx.route.id].into_iter();
    for part in parts.chain(parameters.map(|(_, value)| value.as_str())) {
        scope.update(part.as_bytes());
        scope.update([0]);
    }
    scope.update(key.as_bytes());
    Ok(scope.finalize().into())
}

/// What an object needs that keeps its replies itself: the request's key as a
/// hash over whatever counts, and the form that the object stores.
pub fn in_object(
    cx: &Cx,
    counts: impl Fn(&str) -> bool,
) -> Result<Option<([u8; 32], Idempotency)>, Problem> {
    let Some(key) = key(cx)? else { return Ok(None) };
    let scope = scope(cx, &key, counts)?;
    let payload_hash = Sha256::digest(cx.request.bytes()?);
    let key = URL_SAFE_NO_PAD.encode(scope);
    Ok(Some((scope, Idempotency { key, payload_hash: URL_SAFE_NO_PAD.encode(payload_hash) })))
}

/// A quoted string (RFC 8941); a bare token is taken as well.
pub fn parse_key(header: &str) -> Option<String> {
    let header = header.trim();
    let key = match header.strip_prefix('"') {
        None => header.to_owned(),
        Some(rest) => {
            let inner = rest.strip_suffix('"')?;
            let mut key = String::new();
            let mut chars = inner.chars();
            while let Some(c) = chars.next() {
                match c {
                    // RFC 8941, 3.3.3: only these two may be escaped.
                    '\\' => key.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
                    '"' => return None,
                    c => key.push(c),
                }
            }
            key
        }
    };
    let fits = (1..=MAX_KEY_CHARS).contains(&key.len());
    (fits && key.bytes().all(|b| (0x20..=0x7e).contains(&b))).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_strings_or_bare_tokens() {
        let pattern =
            jsonschema::draft202012::new(&serde_json::json!({ "pattern": IDEMPOTENCY_KEY }));
        let pattern = pattern.unwrap();
        for (header, expected) in [
            ("\"8e03978e-40d5\"", Some("8e03978e-40d5")),
            ("8e03978e-40d5", Some("8e03978e-40d5")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            ("", None),
            ("\"\"", None),
            ("\"open", None),
            ("\"a\"b\"", None),
            (r#""a\x""#, None),
            ("sn\u{f6}", None),
        ] {
            assert_eq!(parse_key(header).as_deref(), expected, "{header}");
            assert_eq!(pattern.is_valid(&header.into()), expected.is_some(), "{header}");
        }
        assert_eq!(parse_key(&"k".repeat(256)), None);
    }
}
