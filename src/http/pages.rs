//! Lists page by page: `limit` and an opaque `cursor` in the query, the next
//! page in the body and in `Link` (RFC 8288).

use super::app::Cx;
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::domain::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Entries of a page, unless the caller asks for fewer or more.
pub const DEFAULT_LIMIT: u32 = 50;
pub const MAX_LIMIT: u32 = 200;

/// Longest cursor that is read: an id and an instant in base64.
const MAX_CURSOR_CHARS: usize = 200;

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub limit: u32,
    /// Where the page before ended, in the words of the list.
    pub after: Option<String>,
}

impl Page {
    /// # Errors
    /// 400 where `limit` or `cursor` cannot be read, or stands twice.
    pub fn of(cx: &Cx) -> Result<Self, Problem> {
        parse(cx.route.id, cx.request.query.as_deref().unwrap_or_default())
    }

    /// One more than the page holds, which tells whether there is another.
    pub fn fetch(&self) -> u32 {
        self.limit + 1
    }

    /// Cuts the rows to the page; the cursor of the next one, if there is one.
    pub fn cut<T>(
        &self,
        cx: &Cx,
        rows: &mut Vec<T>,
        position: impl FnOnce(&T) -> String,
    ) -> Option<String> {
        let more = rows.len() > self.limit as usize;
        rows.truncate(self.limit as usize);
        let last = rows.last().filter(|_| more)?;
        Some(cursor(cx.route.id, &position(last)))
    }

    /// Names the next page in a header.
    pub fn link(&self, cx: &Cx, mut reply: Reply, next: Option<&str>) -> Reply {
        if let Some(next) = next {
            let (path, limit) = (path(cx), self.limit);
            let filters = filters(cx.request.query.as_deref().unwrap_or_default());
            let link = format!("<{path}?limit={limit}&cursor={next}{filters}>; rel=\"next\"");
            reply.set("link", link);
        }
        reply
    }
}

/// Reads the query of the list of this name.
///
/// # Errors
/// As [`Page::of`].
pub fn parse(list: &str, query: &str) -> Result<Page, Problem> {
    let (mut limit, mut after) = (None, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let again = match &*name {
            "limit" => {
                let number = value.parse().ok().filter(|n| (1..=MAX_LIMIT).contains(n));
                // "+5" and "007" are numbers to Rust.
                let plain = value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0');
                let number = number.filter(|_| plain).ok_or_else(|| {
                    malformed(format!("limit: expected a whole number from 1 to {MAX_LIMIT}"))
                })?;
                limit.replace(number).is_some()
            }
            "cursor" => {
                let position = position(list, &value).ok_or_else(unreadable_cursor)?;
                after.replace(position).is_some()
            }
            // Another parameter means nothing here, as everywhere.
            _ => false,
        };
        if again {
            return Err(malformed(format!("{name}: was sent twice")));
        }
    }
    Ok(Page { limit: limit.unwrap_or(DEFAULT_LIMIT), after })
}

/// Where a list in the order of time goes on: after this instant and id.
pub fn moment(at: Timestamp, id: &str) -> String {
    format!("{}.{id}", at.millis())
}

/// # Errors
/// 400 where the position is none that [`moment`] made.
pub fn parse_moment(position: &str) -> Result<(Timestamp, String), Problem> {
    position
        .split_once('.')
        .and_then(|(at, id)| Some((Timestamp::from_millis(at.parse().ok()?), id.to_owned())))
        .ok_or_else(unreadable_cursor)
}

pub fn unreadable_cursor() -> Problem {
    malformed("cursor: expected the next_cursor of a page of this list".to_owned())
}

/// The value of a filter in the query.
///
/// # Errors
/// 400 where it stands twice.
pub fn query_value(cx: &Cx, wanted: &str) -> Result<Option<String>, Problem> {
    let query = cx.request.query.as_deref().unwrap_or_default();
    let mut values = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == wanted)
        .map(|(_, value)| value.into_owned());
    let value = values.next();
    match values.next() {
        Some(_) => Err(malformed(format!("{wanted}: was sent twice"))),
        None => Ok(value),
    }
}

/// The path of the request, for the route's template may have parameters.
fn path(cx: &Cx) -> String {
    cx.params.iter().fold(cx.route.path.to_owned(), |path, (name, value)| {
        path.replace(&format!("{{{name}}}"), value)
    })
}

/// What the query holds beside the page, as it goes on in the next one.
fn filters(query: &str) -> String {
    let mut filters = url::form_urlencoded::Serializer::new(String::new());
    let others = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name != "limit" && name != "cursor");
    for (name, value) in others {
        filters.append_pair(&name, &value);
    }
    let filters = filters.finish();
    if filters.is_empty() { filters } else { format!("&{filters}") }
}

fn malformed(detail: String) -> Problem {
    Problem::new(Code::MalformedRequest, detail)
}

/// Names its list, so that the cursor of another one is refused. It holds no
/// secret, and nothing else than a position: a forged one shows what the
/// caller may see anyway.
fn cursor(list: &str, position: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list} {position}"))
}

fn position(list: &str, cursor: &str) -> Option<String> {
    if cursor.len() > MAX_CURSOR_CHARS {
        return None;
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let position = text.strip_prefix(list)?.strip_prefix(' ')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (!position.is_empty() && position.bytes().all(plain)).then(|| position.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn queries_are_read() {
        let page = |limit, after: Option<&str>| Page { limit, after: after.map(str::to_owned) };
        let next = cursor("list_users", "usr_1");
        assert_eq!(parse("list_users", "").unwrap(), page(50, None));
        assert_eq!(parse("list_users", "limit=7&x=y").unwrap(), page(7, None));
        let query = format!("cursor={next}&limit=200");
        assert_eq!(parse("list_users", &query).unwrap(), page(200, Some("usr_1")));
        for bad in [
            "limit=0",
            "limit=201",
            "limit=-1",
            "limit=+5",
            "limit=05",
            "limit=ten",
            "limit=",
            "limit=5&limit=6",
            "cursor=",
            "cursor=x",
            "cursor=%00",
            &format!("cursor={}", cursor("list_keys", "usr_1")),
            &format!("cursor={}", cursor("list_users", "usr_1' OR 1=1")),
            &format!("cursor={}", cursor("list_users", &"a".repeat(200))),
            &format!("cursor={next}&cursor={next}"),
        ] {
            let problem = parse("list_users", bad).unwrap_err();
            assert_eq!(problem.code, Code::MalformedRequest, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_leads_back(position in "[a-zA-Z0-9_.-]{1,100}") {
            let page = parse("list", &format!("cursor={}", cursor("list", &position))).unwrap();
            prop_assert_eq!(page.after, Some(position));
        }

        #[test]
        fn any_query_is_read_or_refused(query in ".{0,300}") {
            let _ = parse("list", &query);
        }
    }
}
