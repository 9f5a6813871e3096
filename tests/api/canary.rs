//! Watches what an application says in the course of a test: every reply and
//! every log line is looked through at the test's end, for what
//! `tests/canaries.json` forbids and for each secret that was known or sent;
//! and each log line for the fields (Elastic Common Schema) that a line of its
//! kind must have.

use crate::support::TestReply;
use devskyy_orchestration::http::{Body, Request};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

#[derive(Deserialize)]
struct Rules {
    anywhere: Vec<Rule>,
    replies: Vec<Rule>,
    #[serde(with = "pattern")]
    hands_out_secrets: Regex,
    #[serde(with = "pattern")]
    compiled_in: Regex,
    #[serde(with = "pattern")]
    files_of_others: Regex,
    secret_fields: Vec<String>,
    shortest_secret: usize,
    longest_log_text: usize,
    #[serde(with = "pattern")]
    log_line_start: Regex,
    log_lines: Vec<LineRule>,
}

#[derive(Deserialize)]
struct Rule {
    what: String,
    #[serde(with = "pattern")]
    pattern: Regex,
}

/// A kind of log line: those whose fields look like `where`.
#[derive(Deserialize)]
struct LineRule {
    what: String,
    r#where: BTreeMap<String, Pattern>,
    has: BTreeMap<String, Pattern>,
}

#[derive(Deserialize)]
struct Pattern(#[serde(with = "pattern")] Regex);

impl Pattern {
    fn fits(&self, value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::String(text) => self.0.is_match(text),
            other => self.0.is_match(&other.to_string()),
        }
    }
}

mod pattern {
    use regex::Regex;
    use serde::{Deserialize, Deserializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Regex, D::Error> {
        Regex::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

static RULES: LazyLock<Rules> =
    LazyLock::new(|| serde_json::from_str(include_str!("../canaries.json")).unwrap());

/// Shorter parts of a token are words of the test that made it.
const MIN_TOKEN_PART_BYTES: usize = 20;

/// The start of a long secret gives it away as well.
const MAX_SECRET_CHARS: usize = 64;

/// Tests that try everything send secrets by the hundred.
const MAX_PATTERN_BYTES: usize = 64 * 1024 * 1024;

#[derive(Default)]
pub struct Canary(RefCell<Seen>);

#[derive(Default)]
struct Seen {
    secrets: BTreeSet<String>,
    /// What clients wrote where no secret belongs. A reply may quote it.
    said: String,
    replies: Vec<Shown>,
}

struct Shown {
    place: String,
    text: String,
    is_compiled_in: bool,
}

impl Canary {
    /// What the application is told before it answers.
    pub fn sent(&self, request: &Request) {
        let mut seen = self.0.borrow_mut();
        seen.say(&request.path);
        let header = request.headers.get("authorization").unwrap_or_default();
        if let Some((_, token)) = header.split_once(' ') {
            seen.keep_token(token);
        }
        if let Body::Whole(body) = &request.body
            && let Ok(text) = std::str::from_utf8(body)
        {
            match serde_json::from_str(text) {
                Ok(value) => seen.keep_fields(&value),
                Err(_) => url::form_urlencoded::parse(text.as_bytes())
                    .for_each(|(name, value)| seen.keep_field(&name, &value)),
            }
        }
    }

    pub fn answered(&self, method: &str, path: &str, reply: &TestReply) {
        let mut seen = self.0.borrow_mut();
        let place = format!("{method} {path}");
        let hands_out = RULES.hands_out_secrets.is_match(&place) && reply.status < 300;
        if hands_out {
            seen.keep_fields(&reply.json);
        }
        let mut text = format!("{:?}", reply.headers);
        if !hands_out && !RULES.files_of_others.is_match(&place) {
            text.push('\n');
            text.push_str(&reply.text);
        }
        let is_compiled_in = RULES.compiled_in.is_match(&place);
        seen.replies.push(Shown { place, text, is_compiled_in });
    }

    /// What was found. `known` are the secrets that the application was
    /// started with.
    pub fn found(&self, known: &[Option<String>], lines: &[String]) -> Vec<String> {
        let mut seen = self.0.borrow_mut();
        for secret in known.iter().flatten() {
            let secret = secret.strip_prefix("dev:").unwrap_or(secret);
            seen.keep(secret.strip_prefix("ed25519:").unwrap_or(secret));
        }
        let all: Vec<String> = seen.secrets.iter().map(|secret| regex::escape(secret)).collect();
        let secrets = (!all.is_empty()).then(|| {
            RegexBuilder::new(&all.join("|")).size_limit(MAX_PATTERN_BYTES).build().unwrap()
        });
        let mut found = BTreeSet::new();
        let mut look = |what: &str, pattern: &Regex, place: &str, text: &str, said: &str| {
            if let Some(hit) = pattern.find_iter(text).find(|hit| !said.contains(hit.as_str())) {
                let start = text.floor_char_boundary(hit.start().saturating_sub(60));
                let end = text.ceil_char_boundary(hit.end() + 60);
                found.insert(format!("{what} in {place}: …{}…", &text[start..end]));
            }
        };
        for Shown { place, text, is_compiled_in } in &seen.replies {
            for rule in &RULES.anywhere {
                look(&rule.what, &rule.pattern, place, text, "");
            }
            for rule in &RULES.replies {
                look(&rule.what, &rule.pattern, place, text, &seen.said);
            }
            if let Some(secrets) = secrets.as_ref().filter(|_| !is_compiled_in) {
                look("a secret of this test", secrets, place, text, &seen.said);
            }
        }
        for line in lines {
            for rule in &RULES.anywhere {
                look(&rule.what, &rule.pattern, "a log line", line, "");
            }
            if let Some(secrets) = &secrets {
                look("a secret of this test", secrets, "a log line", line, "");
            }
        }
        for line in lines {
            // One object a line: text from outside is escaped, and cut.
            let entry = serde_json::from_str::<Value>(line).unwrap_or_default();
            let whole = entry.is_object() && !line.contains(|c: char| c.is_control());
            let long = |text: &str| text.chars().count() > RULES.longest_log_text;
            let mut values = entry.as_object().into_iter().flat_map(|entry| entry.values());
            if !whole || values.any(|value| value.as_str().is_some_and(long)) {
                found.insert(format!("raw or uncut text in a log line: {line}"));
            }
            if !RULES.log_line_start.is_match(line) {
                found.insert(format!("another start of a log line: {line}"));
            }
            let fits = |(name, pattern): &(&String, &Pattern)| pattern.fits(&entry[*name]);
            for rule in RULES.log_lines.iter().filter(|rule| rule.r#where.iter().all(|f| fits(&f)))
            {
                for (name, _) in rule.has.iter().filter(|field| !fits(field)) {
                    let what = &rule.what;
                    found.insert(format!("no {name}, or another form of it, in a {what}: {line}"));
                }
            }
        }
        found.into_iter().collect()
    }
}

impl Seen {
    fn keep_fields(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    match inner.as_str() {
                        Some(text) => self.keep_field(name, text),
                        None => self.keep_fields(inner),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.keep_fields(item)),
            Value::String(text) => self.say(text),
            _ => {}
        }
    }

    fn keep_field(&mut self, name: &str, text: &str) {
        if RULES.secret_fields.iter().any(|field| field == name) {
            self.keep_token(text);
        } else {
            self.say(text);
        }
    }

    fn say(&mut self, text: &str) {
        self.said.push_str(text);
        self.said.push('\n');
    }

    /// A token's parts are as secret as the whole, save its header, which
    /// says nothing.
    fn keep_token(&mut self, text: &str) {
        let parts: Vec<&str> = text.split('.').collect();
        match parts[..] {
            [_, payload, signature] => [payload, signature]
                .into_iter()
                .filter(|part| part.len() >= MIN_TOKEN_PART_BYTES)
                .for_each(|part| self.keep(part)),
            _ => self.keep(text),
        }
    }

    fn keep(&mut self, secret: &str) {
        if secret.chars().count() >= RULES.shortest_secret {
            self.secrets.insert(secret.chars().take(MAX_SECRET_CHARS).collect());
        }
    }
}
