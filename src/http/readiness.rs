//! GET `/deployment/readiness`: may this deployment serve production? Each
//! check runs at the call; one that could not run says so and is never green.

use super::app::{App, Cx};
use super::boards::Board;
use super::openapi;
use super::problem::Problem;
use super::reply::{API_HEADERS, Reply};
use super::status::{ComponentState, cron};
use crate::auth::bootstrap;
use crate::backup::last_drill;
use crate::domain::backup::BACKUP_LATE_MS;
use crate::domain::delivery::ChannelFigures;
use crate::domain::readiness::{Check, CheckStatus, report};
use crate::domain::time::{DAY_MS, MINUTE_MS, SECOND_MS, Timestamp};
use crate::objects::board;
use crate::objects::partnership::{self, Command};
use crate::platform::Error;
use crate::store;
use crate::store::backups::{self, Backup, Drill};
use crate::store::job_runs::{self, TICK};
use crate::store::kv::{self_check, write_self_check};
use crate::store::users::{self, BootstrapPassword};
use ::http::StatusCode;
use std::rc::Rc;

/// What a check found, and what to do if it is not good.
type Finding = (CheckStatus, String, Option<String>);

const VIEW: &str = "readiness";

/// Some evaluations were missed: no page would come in time.
const EVALUATION_LATE_MS: i64 = 5 * MINUTE_MS;

/// What an on-call engineer is promised.
const ALERT_LATE_MS: i64 = 5 * MINUTE_MS;

/// A way back that nobody has walked for so long may be overgrown.
const DRILL_LATE_MS: i64 = 90 * DAY_MS;

/// Headers that every reply must carry.
const SECURITY_HEADERS: &[&str] = &[
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "content-security-policy",
    "cross-origin-opener-policy",
    "cross-origin-embedder-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
    "x-permitted-cross-domain-policies",
    "x-dns-prefetch-control",
    "cache-control",
];

pub async fn readiness(cx: Cx) -> Result<Reply, Problem> {
    let app = &cx.app;
    let platform = &app.platform;
    let tenant_id = cx.caller()?.tenant_id();
    let board = app.boards.snapshot(platform, tenant_id, cx.now).await;
    // As in /status: checks of the last second are not made again.
    if let Some(body) = board.as_ref().ok().and_then(|board| board.kept(VIEW)) {
        return Ok(Reply::bytes(StatusCode::OK, "application/json", body));
    }
    let kept = board.clone();
    let (migrations, kv, pong, tick, password, backup) = futures::join!(
        store::applied_migrations(&platform.database),
        kv_round_trip(app, cx.now),
        board::ping(platform, tenant_id),
        job_runs::last(&platform.database, TICK),
        users::bootstrap_password(&platform.database),
        backups::latest(&platform.database),
    );
    let board = pong.and(board);
    let (objects, drill) = futures::join!(objects(&cx, tenant_id, &board), last_drill(platform));
    let mut reply = Reply::empty(StatusCode::OK);
    let findings = [
        ("signing_key", signing_key(app)),
        ("d1_round_trip", d1_round_trip(&migrations)),
        ("migrations", migrations_at_head(migrations)),
        ("kv_round_trip", kv),
        ("objects", objects),
        ("cron", cron_ran(tick, cx.now)),
        ("slo_data", slo_data(&board, cx.now)),
        ("channels", channels(&board)),
        ("alert_latency", alert_latency(&board)),
        ("backup_age", backup_age(backup, cx.now)),
        ("last_drill", drilled(drill, cx.now)),
        ("cors", cors(app)),
        ("security_headers", security_headers(&reply)),
        ("bootstrap_secret", bootstrap_secret(app, password)),
        ("loopback_probes", loopback_probes(app)),
        ("partnership_data", partnership_data(&board)),
        ("openapi", openapi_matches(app)),
    ];
    let checks = findings
        .into_iter()
        .map(|(name, (status, message, recommendation))| {
            let checked_at = (status != CheckStatus::NotRun).then_some(cx.now);
            (name, Check { status, message, checked_at }, recommendation)
        })
        .collect();
    let body = Reply::ok(&report(checks, cx.now));
    reply.headers = body.headers;
    reply.body = body.body;
    if let Ok(board) = &kept {
        board.keep(VIEW, reply.body.clone());
    }
    Ok(reply)
}

fn pass(message: impl Into<String>) -> Finding {
    (CheckStatus::Pass, message.into(), None)
}

fn warning(message: impl Into<String>, todo: &str) -> Finding {
    (CheckStatus::Warning, message.into(), Some(todo.to_owned()))
}

fn fail(message: impl Into<String>, todo: &str) -> Finding {
    (CheckStatus::Fail, message.into(), Some(todo.to_owned()))
}

/// What the check needs could not be had.
fn not_run(what: &str, error: &Error) -> Finding {
    let message = format!("not run: {what} did not answer ({:?})", error.kind);
    (CheckStatus::NotRun, message, Some(format!("see why {what} does not answer")))
}

fn signing_key(app: &App) -> Finding {
    let keys = match app.verifier.keys() {
        Ok(keys) => keys,
        Err(defect) => {
            return fail(defect.to_string(), "put that right: make signing-key prints a fresh key");
        }
    };
    match keys.development_key() {
        Some(variable) => fail(
            format!("{variable} is a development key"),
            "set a production key instead: make signing-key prints one",
        ),
        None => pass(format!("slot {} signs, no live key is for development", keys.active_slot())),
    }
}

fn d1_round_trip(answer: &Result<Vec<String>, Error>) -> Finding {
    match answer {
        Ok(rows) => pass(format!("D1 answered with the {} migrations it holds", rows.len())),
        Err(error) => fail(unreachable("D1", error), "check the D1 binding and its migrations"),
    }
}

fn migrations_at_head(applied: Result<Vec<String>, Error>) -> Finding {
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) => return not_run("D1", &error),
    };
    let missing: Vec<&str> = store::MIGRATIONS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !applied.iter().any(|done| done == name))
        .collect();
    if missing.is_empty() {
        pass(format!("all {} migrations of this build are applied", store::MIGRATIONS.len()))
    } else {
        fail(
            format!("missing in D1: {}", missing.join(", ")),
            "apply the migrations: wrangler d1 migrations apply devskyy --remote",
        )
    }
}

/// KV takes one write a second per key, so a value written within the last
/// minute is only read.
async fn kv_round_trip(app: &App, now: Timestamp) -> Finding {
    let kv = &app.platform.kv;
    let minute = now.floor_to(MINUTE_MS).to_rfc3339();
    match self_check(kv).await {
        Err(error) => return fail(unreachable("KV", &error), "check the KV binding"),
        Ok(Some(written)) if written == minute => {
            return pass(format!("read what was written at {minute}"));
        }
        Ok(_) => {}
    }
    if let Err(error) = write_self_check(kv, &minute).await {
        return fail(unreachable("KV, writing", &error), "check the KV binding");
    }
    match self_check(kv).await {
        Ok(Some(read)) if read == minute => pass(format!("wrote and read back at {minute}")),
        // Other values are what KV promises: a change may show a minute later.
        Ok(_) => pass("wrote, and read an earlier value, as KV may"),
        Err(error) => fail(unreachable("KV, reading back", &error), "check the KV binding"),
    }
}

fn unreachable(what: &str, error: &Error) -> String {
    format!("{what}: no answer ({:?})", error.kind)
}

async fn objects(cx: &Cx, tenant_id: &str, board: &Result<Rc<Board>, Error>) -> Finding {
    let todo = "check the Durable Object bindings and migrations of wrangler.toml";
    let board = match board {
        Ok(board) => board,
        Err(error) => return fail(unreachable("the board", error), todo),
    };
    let Some(first) = board.partnerships.first() else {
        return (
            CheckStatus::NotRun,
            "not run: the board answered, but there is no partnership to ask".to_owned(),
            Some("add a partnership".to_owned()),
        );
    };
    let id = &first.summary.definition.id;
    match partnership::call(&cx.app.platform, tenant_id, id, &Command::Ping).await {
        Ok(_) => pass(format!("the board and {id} answered")),
        Err(error) => fail(unreachable(id, &error), todo),
    }
}

fn cron_ran(tick: Result<Option<job_runs::JobRun>, Error>, now: Timestamp) -> Finding {
    let tick = match tick {
        Ok(tick) => tick,
        Err(error) => return not_run("D1", &error),
    };
    let todo = "check the cron triggers of the deployed Worker and its log";
    match cron(tick, now) {
        (ComponentState::Operational, detail) => pass(detail),
        (ComponentState::Degraded, detail) => warning(detail, todo),
        (_, detail) => fail(detail, todo),
    }
}

fn cors(app: &App) -> Finding {
    let origins = &app.config.cors_origins;
    if origins.iter().any(|origin| origin.contains('*')) {
        return fail("CORS_ALLOWED_ORIGINS holds a *", "list every origin exactly");
    }
    let insecure: Vec<&str> =
        origins.iter().map(String::as_str).filter(|o| !o.starts_with("https://")).collect();
    if !insecure.is_empty() {
        return warning(
            format!("origins that are not https: {}", insecure.join(", ")),
            "allow https origins only",
        );
    }
    pass(match origins.len() {
        0 => "no browser origin is allowed".to_owned(),
        n => format!("{n} origins, each exact"),
    })
}

fn backup_age(latest: Result<Option<Backup>, Error>, now: Timestamp) -> Finding {
    let todo = "see why the job of minute 37 does not finish: GET /backups, and the log";
    let finished_at = match latest {
        Err(error) => return not_run("D1", &error),
        Ok(latest) => latest.and_then(|set| set.finished_at),
    };
    let Some(finished_at) = finished_at else {
        let todo = "wait for minute 37, or POST /backups";
        return (CheckStatus::NotRun, "there is no backup yet".to_owned(), Some(todo.to_owned()));
    };
    let age_ms = now.since_ms(finished_at);
    let message = format!("the last good set is {} minutes old", age_ms / MINUTE_MS);
    if age_ms < BACKUP_LATE_MS { pass(message) } else { fail(message, todo) }
}

fn drilled(drill: Result<Option<Drill>, Error>, now: Timestamp) -> Finding {
    let todo = "restore the last set into a second environment bound to the same bucket (README, \
                Backups); make drill does it on one machine";
    let drill = match drill {
        Err(error) => return not_run("the bucket", &error),
        Ok(drill) => drill,
    };
    let Some(drill) = drill else {
        let message = "no backup has been restored yet";
        return (CheckStatus::NotRun, message.to_owned(), Some(todo.to_owned()));
    };
    let age_ms = now.since_ms(drill.finished_at);
    let message =
        format!("a set was restored {} days ago, at {}", age_ms / DAY_MS, drill.finished_at);
    if age_ms < DRILL_LATE_MS { pass(message) } else { warning(message, todo) }
}

/// Whether the objectives are evaluated, which the tick does.
fn slo_data(board: &Result<Rc<Board>, Error>, now: Timestamp) -> Finding {
    let known = match board {
        Ok(board) => &board.partnerships,
        Err(error) => return not_run("the board", error),
    };
    let todo = "see why the tick does not come, or what the log says of alerts not evaluated";
    let with_slos = known.iter().filter(|known| !known.summary.definition.slos.is_empty());
    let mut late = Vec::new();
    let mut count = 0;
    for partnership in with_slos {
        count += 1;
        let evaluated_at = partnership.summary.assessment.evaluated_at;
        if evaluated_at.is_none_or(|at| now.since_ms(at) > EVALUATION_LATE_MS) {
            late.push(partnership.summary.definition.id.as_str());
        }
    }
    match (count, late.is_empty()) {
        (0, _) => warning("no partnership has an objective", "add one: POST …/slos"),
        (_, true) => pass(format!("objectives of {count} partnerships evaluated within 5 minutes")),
        (_, false) => fail(format!("not evaluated within 5 minutes: {}", late.join(", ")), todo),
    }
}

/// Whether those who are to be told can be told, as far as it was tried.
fn channels(board: &Result<Rc<Board>, Error>) -> Finding {
    let digest = match board {
        Ok(board) => board.incidents.as_ref(),
        Err(error) => return not_run("the board", error),
    };
    let Some(digest) = digest else {
        let message = "the object of incidents has not told of any channel yet";
        return (CheckStatus::NotRun, message.to_owned(), Some("wait for a tick".to_owned()));
    };
    let of = |wanted: fn(&ChannelFigures) -> bool| -> Vec<&str> {
        let found = digest.channels.iter().filter(|(_, figures)| wanted(figures));
        found.map(|(id, _)| id.as_str()).collect()
    };
    let failing = of(|known| {
        known.disabled_at.is_some()
            || known.last_failed_at.is_some_and(|at| Some(at) > known.last_delivered_at)
    });
    let untried = of(|known| known.last_delivered_at.is_none() && known.last_failed_at.is_none());
    let seen = format!("as of {}", digest.computed_at);
    if digest.channels.is_empty() {
        warning("there is no channel: nobody is told of incidents", "add one: POST /channels")
    } else if !failing.is_empty() {
        let todo = "GET /channels/{id}/deliveries says why; mend it, then POST /channels/{id}/test";
        fail(format!("the last call failed, {seen}: {}", failing.join(", ")), todo)
    } else if !untried.is_empty() {
        let message = format!("never tried: {}", untried.join(", "));
        (CheckStatus::NotRun, message, Some("POST /channels/{id}/test".to_owned()))
    } else {
        let count = digest.channels.len();
        pass(format!("the last call of each of {count} channels arrived, {seen}"))
    }
}

/// From the trouble to somebody who knows, at the last critical incident.
fn alert_latency(board: &Result<Rc<Board>, Error>) -> Finding {
    let page = match board {
        Ok(board) => board.incidents.as_ref().and_then(|digest| digest.last_page.clone()),
        Err(error) => return not_run("the board", error),
    };
    let Some(page) = page else {
        let todo = "make one: a partnership of its own whose probe fails, and a channel; README, \
                    Operations";
        let message = "no channel was told of a critical incident yet";
        return (CheckStatus::NotRun, message.to_owned(), Some(todo.to_owned()));
    };
    let took_ms = page.told_at.since_ms(page.began_at);
    let message = format!(
        "{} s from the first bad event of {} to a channel that knew, at {}",
        took_ms / SECOND_MS,
        page.incident_id,
        page.told_at
    );
    let todo = "look at its timeline and at the deliveries: did the alert open late, or the \
                channel take it late?";
    if took_ms <= ALERT_LATE_MS { pass(message) } else { fail(message, todo) }
}

fn security_headers(own: &Reply) -> Finding {
    let missing: Vec<&str> =
        SECURITY_HEADERS.iter().copied().filter(|name| own.header(name).is_none()).collect();
    if missing.is_empty() && std::ptr::eq(own.constant, API_HEADERS) {
        pass(format!("this reply carries all {}", SECURITY_HEADERS.len()))
    } else {
        fail(format!("missing on this reply: {}", missing.join(", ")), "mend http/reply.rs")
    }
}

fn bootstrap_secret(app: &App, password: Result<BootstrapPassword, Error>) -> Finding {
    match password {
        Err(error) => not_run("D1", &error),
        Ok(BootstrapPassword::Gone) => pass("nobody has the password of the deployment's secret"),
        Ok(BootstrapPassword::InUse) => warning(
            "the first admin still has the password of the deployment's secret",
            "log in as the first admin and change the password, then delete the secret",
        ),
        Ok(BootstrapPassword::NoUsers) => match bootstrap::first_admin(&app.config) {
            Ok(_) => warning("there is no first admin yet", "log in once, or wait for a tick"),
            Err(defects) => fail(
                defects.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                "set BOOTSTRAP_ADMIN_USERNAME and BOOTSTRAP_ADMIN_PASSWORD: nobody can log in",
            ),
        },
    }
}

fn loopback_probes(app: &App) -> Finding {
    match (app.config.loopback_probes, app.config.environment.as_str()) {
        (false, _) => pass("probes may go to public hosts only"),
        (true, "development") => warning(
            "probes may go to this machine: development only",
            "set ALLOW_LOOPBACK_PROBES to false in production",
        ),
        (true, _) => fail(
            "probes may go to this machine outside of development",
            "set ALLOW_LOOPBACK_PROBES to false",
        ),
    }
}

fn partnership_data(board: &Result<Rc<Board>, Error>) -> Finding {
    let known = match board {
        Ok(board) => &board.partnerships,
        Err(error) => return not_run("the board", error),
    };
    let silent: Vec<&str> = known
        .iter()
        .filter(|partnership| partnership.summary.newest.is_empty())
        .map(|partnership| partnership.summary.definition.id.as_str())
        .collect();
    match (known.len(), silent.is_empty()) {
        (0, _) => warning("there is no partnership", "add a partnership"),
        (n, true) => pass(format!("all {n} partnerships have observations")),
        (_, false) => warning(
            format!("no observation yet: {}", silent.join(", ")),
            "wait for a tick, or check the probes of these partnerships",
        ),
    }
}

fn openapi_matches(app: &App) -> Finding {
    match app.openapi_matches.get_or_init(|| openapi::matches(app.routes)) {
        Ok(()) => pass(format!("/openapi.json describes all {} routes", app.routes.len())),
        Err(difference) => fail(difference.as_str(), "run make generate and deploy again"),
    }
}
