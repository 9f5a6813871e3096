//! Conditional requests (RFC 9110, section 13): strong entity tags, 304 for
//! who has it already, 412 for who would overwrite what he has not seen.

use super::app::Cx;
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::platform::Headers;
use ::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The tag of a body: 132 bits of its hash.
pub fn etag_of(body: &[u8]) -> String {
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(body));
    format!("\"{}\"", hash.get(..22).unwrap_or_default())
}

/// Gives the reply its tag, unless it has one, and leaves out the body where
/// the client has it already.
pub fn answer(mut reply: Reply, headers: &Headers) -> Reply {
    if reply.header("etag").is_none() {
        let etag = etag_of(&reply.body);
        reply.set("etag", etag);
    }
    let known = headers.get("if-none-match");
    if let (Some(known), Some(etag)) = (known, reply.header("etag"))
        && names(&known, etag, Comparison::Weak)
    {
        reply.status = StatusCode::NOT_MODIFIED;
        reply.body = Bytes::new();
        reply.headers.retain(|(name, _)| *name != "content-type");
    }
    reply
}

/// Whether the request may change what has this tag now; `None`: there is
/// nothing yet.
///
/// # Errors
/// 412 where `If-Match` names another state.
pub fn check_if_match(cx: &Cx, etag: Option<&str>) -> Result<(), Problem> {
    let Some(expected) = cx.request.headers.get("if-match") else { return Ok(()) };
    if etag.is_some_and(|etag| names(&expected, etag, Comparison::Strong)) {
        return Ok(());
    }
    let detail = match etag {
        Some(_) => "If-Match names another state than the present one; read it again",
        None => "If-Match names a state, and there is nothing yet",
    };
    let problem = Problem::new(Code::PreconditionFailed, detail);
    Err(match etag {
        Some(etag) => problem.with_header("etag", etag),
        None => problem,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of tags names this one. `*` names every one.
pub fn names(list: &str, etag: &str, comparison: Comparison) -> bool {
    list.trim() == "*"
        || tags(list)
            .any(|(is_weak, tag)| tag == etag && (comparison == Comparison::Weak || !is_weak))
}

/// The tags of a list, with their quotes; commas may stand inside of them.
fn tags(list: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (is_weak, start) = match rest.strip_prefix("W/") {
            Some(strong) => (true, strong),
            None => (false, rest),
        };
        let end = start.strip_prefix('"')?.find('"')? + 2;
        let (tag, after) = start.split_at_checked(end)?;
        rest = after;
        Some((is_weak, tag))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags_are_read() {
        let weak = |list: &str| names(list, "\"a\"", Comparison::Weak);
        let strong = |list: &str| names(list, "\"a\"", Comparison::Strong);
        for list in ["\"a\"", "*", " * ", "\"b\", \"a\"", "\"b,\",\"a\"", "W/\"b\" , \"a\""] {
            assert!(weak(list) && strong(list), "{list}");
        }
        assert!(weak("W/\"a\"") && !strong("W/\"a\""));
        for list in ["", "a", "\"b\"", "\"a", "\"\"a\"\"", "\"b\\\"a\"", "w/\"a\"", "**"] {
            assert!(!weak(list) && !strong(list), "{list}");
        }
    }

    #[test]
    fn a_tag_follows_from_the_body() {
        assert_eq!(etag_of(b"x"), etag_of(b"x"));
        assert_ne!(etag_of(b"x"), etag_of(b"y"));
        assert_eq!(etag_of(b"").len(), 24);
    }
}
