//! GET `/activity`: who did what when, and who was turned away.

use super::app::Cx;
use super::pages::{Page, moment, parse_moment};
use super::problem::Problem;
use super::reply::Reply;
use crate::domain::time::Timestamp;
use crate::store::activity::{self, Position};
use serde::Serialize;

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ActivityLineOut {
    pub timestamp: Timestamp,
    /// Such as `partnership.created` or `login.locked`.
    pub event: String,
    /// `success`, `refused` or `failed`.
    pub status: String,
    /// A user's id, an API key's, or `system`.
    pub actor: String,
    /// What it was done to.
    pub subject: String,
}

/// Newest first.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ActivityOut {
    pub activity: Vec<ActivityLineOut>,
    /// For the page after this one; null: this is the last.
    pub next_cursor: Option<String>,
}

pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let page = Page::of(&cx)?;
    let position = page.after.as_deref().map(parse_moment).transpose()?;
    let position = position.map(|(at, id)| Position { at, id });
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let mut lines = activity::before(database, tenant_id, position.as_ref(), page.fetch()).await?;
    let next_cursor = page.cut(&cx, &mut lines, |line| moment(line.at, &line.id));
    let activity = lines.into_iter().map(|line| ActivityLineOut {
        timestamp: line.at,
        event: line.event,
        status: line.status,
        actor: line.actor,
        subject: line.subject,
    });
    let out = ActivityOut { activity: activity.collect(), next_cursor };
    Ok(page.link(&cx, Reply::ok(&out), out.next_cursor.as_deref()))
}
