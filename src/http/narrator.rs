//! The narrator: an optional chat endpoint that puts a receipt into prose. It
//! is given the receipt and nothing else; what it says is kept beside the
//! decision and changes nothing of it.

use super::app::Cx;
use crate::domain::probe_url::{LoopbackPolicy, ProbeUrl};
use crate::domain::time::Timestamp;
use crate::log;
use crate::platform::fetch::{OutboundMethod, OutboundReply, OutboundRequest};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Whoever asked for a decision waits at most this long for the prose.
const DEADLINE_MS: u32 = 5_000;

const MAX_REPLY_BYTES: usize = 64 * 1024;
const MAX_CHARS: usize = 4_000;

/// A receipt longer than this would cost more than its prose is worth.
const MAX_RECEIPT_BYTES: usize = 64 * 1024;

const TASK: &str = "You are given the receipt of a decision as JSON. Retell it in at most 200 words \
                    of plain prose for the person who has to defend it. Use no number, name or \
                    claim that is not in the receipt, and add no advice.";

/// What a model made of a receipt.
#[derive(Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Narrative {
    pub text: String,
    /// Whose words these are.
    pub model: String,
    pub written_at: Timestamp,
}

/// `None`: there is no narrator, or it did not answer as it should.
pub async fn tell(cx: &Cx, receipt: &[u8]) -> Option<Narrative> {
    let narrator = cx.app.config.narrator.as_ref()?;
    let failed = |why: &str| {
        let what = "the narrator told nothing";
        log::warn(&cx.app.platform.log, cx.now, "devskyy.narrator", what, why);
    };
    if receipt.len() > MAX_RECEIPT_BYTES {
        failed("the receipt is too long to be told");
        return None;
    }
    let loopback = LoopbackPolicy::of(cx.app.config.loopback_probes);
    let Ok(url) = ProbeUrl::parse(&narrator.url, loopback) else {
        failed("NARRATOR_URL is no URL that may be called");
        return None;
    };
    let body = json!({
        "model": narrator.model,
        "temperature": 0,
        "messages": [
            { "role": "system", "content": TASK },
            { "role": "user", "content": String::from_utf8_lossy(receipt) },
        ],
    });
    let mut headers = vec![
        ("accept", "application/json".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    if let Some(key) = &narrator.key {
        headers.push(("authorization", format!("Bearer {}", key.expose())));
    }
    let request = OutboundRequest {
        method: OutboundMethod::Post,
        url: url.as_str().to_owned(),
        headers,
        body: body.to_string().into_bytes(),
        deadline_ms: DEADLINE_MS,
        max_body_bytes: MAX_REPLY_BYTES,
    };
    match cx.app.platform.outbound.send(request).await {
        Ok(OutboundReply::Answered { status: 200, body, truncated: false, .. }) => {
            let told = said(&body);
            if told.is_none() {
                failed("the reply holds no text");
            }
            told.map(|text| Narrative { text, model: narrator.model.clone(), written_at: cx.now })
        }
        Ok(OutboundReply::Answered { status, .. }) => {
            failed(&format!("status {status}, or a reply that was too long"));
            None
        }
        Ok(OutboundReply::TimedOut) => {
            failed("no reply in time");
            None
        }
        Ok(OutboundReply::Failed { reason }) => {
            failed(&reason);
            None
        }
        Err(error) => {
            failed(&error.to_string());
            None
        }
    }
}

/// The first choice's text, as much as is kept of it.
fn said(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Completion {
        choices: Vec<Choice>,
    }
    #[derive(Deserialize)]
    struct Choice {
        message: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        content: String,
    }
    let completion: Completion = serde_json::from_slice(body).ok()?;
    let text = completion.choices.into_iter().next()?.message.content;
    let printable = |c: &char| !c.is_control() || *c == '\n';
    let text: String = text.trim().chars().filter(printable).take(MAX_CHARS).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn only_text_is_taken_from_a_reply() {
        let reply =
            |content: &str| format!(r#"{{"choices":[{{"message":{{"content":{content}}}}}]}}"#);
        assert_eq!(said(reply(r#"" It holds.\u0007""#).as_bytes()).as_deref(), Some("It holds."));
        for bad in [reply("\" \""), reply("null"), "{}".to_owned(), r#"{"choices":[]}"#.to_owned()]
        {
            assert_eq!(said(bad.as_bytes()), None, "{bad}");
        }
        let long = reply(&format!("\"{}\"", "a".repeat(9_000)));
        assert_eq!(said(long.as_bytes()).unwrap().len(), 4_000);
    }
}
