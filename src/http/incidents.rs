//! `/incidents`: what is wrong, since when, who looks after it, and what was
//! done.

use super::app::Cx;
use super::idempotency;
use super::pages::{Page, moment, parse_moment, query_value};
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::domain::alert::Family;
use crate::domain::id::check_slug;
use crate::domain::incident::{
    ByWhom, Incident, IncidentState, Severity, SourcedAlert, TimelineEntry,
};
use crate::domain::time::Timestamp;
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::validation::PRINTABLE;
use crate::domain::validation::{FieldError, check_text};
use crate::objects::incident::{self, Action, Command, Filter, Reply as ObjectReply, Story};
use serde::{Deserialize, Serialize};

const MAX_NOTE_CHARS: usize = 2_000;

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct IncidentOut {
    pub id: String,
    pub state: IncidentState,
    /// Id of the partnership; null: the service itself.
    pub partnership: Option<String>,
    /// The rule family; of each and a partnership there is one at a time.
    pub rule: Family,
    /// The highest that it has had.
    pub severity: Severity,
    pub title: String,
    pub detail: String,
    /// When the trouble began, as far as evaluations saw it.
    pub began_at: Timestamp,
    pub opened_at: Timestamp,
    pub acknowledged: Option<ByWhom>,
    pub resolved: Option<ByWhom>,
    /// An alert of it comes and goes.
    pub flapping: bool,
    /// The alerts behind it, as last reported.
    pub alerts: Vec<SourcedAlert>,
}

/// An incident with all that happened to it, the oldest first.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct StoryOut {
    #[serde(flatten)]
    pub incident: IncidentOut,
    pub timeline: Vec<TimelineEntry>,
}

/// Newest first.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct IncidentsOut {
    pub incidents: Vec<IncidentOut>,
    /// For the page after this one; null: this is the last.
    pub next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NoteIn {
    /// 1 to 2,000 characters on one line.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = MAX_NOTE_CHARS), regex(pattern = PRINTABLE)))]
    pub text: String,
}

pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let page = Page::of(&cx)?;
    let is_open = match query_value(&cx, "state")?.as_deref() {
        None => None,
        Some("open") => Some(true),
        Some("resolved") => Some(false),
        Some(_) => {
            return Err(Problem::new(
                Code::MalformedRequest,
                "state: expected open (acknowledged ones among them) or resolved",
            ));
        }
    };
    let partnership = match query_value(&cx, "partnership")? {
        None => None,
        Some(name) => {
            check_slug(&name).map_err(|reason| {
                Problem::new(Code::MalformedRequest, format!("partnership: {reason}"))
            })?;
            let tenant_id = cx.caller()?.tenant_id();
            let board = cx.app.boards.snapshot(&cx.app.platform, tenant_id, cx.now).await?;
            // Also of what was retired: an id that nobody knows has none.
            let known = board.find(&name).map(|known| known.summary.definition.id.clone());
            Some(known.unwrap_or(name))
        }
    };
    let before = page.after.as_deref().map(parse_moment).transpose()?;
    let filter = Filter { is_open, partnership, before, limit: page.fetch() };
    let mut incidents = match call(&cx, &Command::List(filter)).await? {
        ObjectReply::Incidents(incidents) => incidents,
        other => return Err(unexpected(&other)),
    };
    let next_cursor = page.cut(&cx, &mut incidents, |last| moment(last.opened_at, &last.id));
    let out = IncidentsOut { incidents: incidents.into_iter().map(render).collect(), next_cursor };
    Ok(page.link(&cx, Reply::ok(&out), out.next_cursor.as_deref()))
}

pub async fn show(cx: Cx) -> Result<Reply, Problem> {
    let id = cx.param("id")?.to_owned();
    match call(&cx, &Command::Get { id }).await? {
        ObjectReply::Story(story) => Ok(Reply::ok(&render_story(*story))),
        ObjectReply::NotFound => Err(not_found()),
        other => Err(unexpected(&other)),
    }
}

/// Somebody looks after it. Once more changes nothing.
pub async fn acknowledge(cx: Cx) -> Result<Reply, Problem> {
    act(&cx, Action::Acknowledge).await
}

/// Ends it by hand. While its alerts last it does not open again.
pub async fn resolve(cx: Cx) -> Result<Reply, Problem> {
    act(&cx, Action::Resolve).await
}

pub async fn note(cx: Cx) -> Result<Reply, Problem> {
    let input: NoteIn = cx.request.json()?;
    if let Err(detail) = check_text(&input.text, MAX_NOTE_CHARS) {
        return Err(Problem::invalid(vec![FieldError::new("/text", detail)]));
    }
    act(&cx, Action::Note(input.text)).await
}

async fn act(cx: &Cx, action: Action) -> Result<Reply, Problem> {
    let command = Command::Act {
        id: cx.param("id")?.to_owned(),
        action,
        actor: cx.caller()?.id().to_owned(),
        idempotency: idempotency::in_object(cx, |_| true)?.map(|(_, kept)| kept),
        trace_id: Some(cx.trace_id.clone()),
    };
    let reply = call(cx, &command).await?;
    cx.app.boards.forget(cx.caller()?.tenant_id());
    match reply {
        ObjectReply::Acted { story, replayed } => {
            let mut reply = Reply::ok(&render_story(*story));
            if replayed {
                reply.set("idempotency-replayed", "true");
            }
            Ok(reply)
        }
        ObjectReply::NotFound => Err(not_found()),
        ObjectReply::AlreadyResolved => {
            Err(Problem::new(Code::Conflict, "the incident is resolved already"))
        }
        ObjectReply::KeyReused => Err(idempotency::reused()),
        other => Err(unexpected(&other)),
    }
}

async fn call(cx: &Cx, command: &Command) -> Result<ObjectReply, Problem> {
    Ok(incident::call(&cx.app.platform, cx.caller()?.tenant_id(), command).await?)
}

fn not_found() -> Problem {
    Problem::not_found("there is no incident with this id")
}

fn unexpected(reply: &ObjectReply) -> Problem {
    Problem::internal(format!("unexpected reply of the object: {reply:?}"))
}

fn render(incident: Incident) -> IncidentOut {
    IncidentOut {
        state: incident.state(),
        flapping: incident.is_flapping(),
        id: incident.id,
        partnership: incident.cause.partnership,
        rule: incident.cause.family,
        severity: incident.severity,
        title: incident.title,
        detail: incident.detail,
        began_at: incident.began_at,
        opened_at: incident.opened_at,
        acknowledged: incident.acknowledged,
        resolved: incident.resolved,
        alerts: incident.alerts,
    }
}

fn render_story(story: Story) -> StoryOut {
    StoryOut { incident: render(story.incident), timeline: story.timeline }
}
