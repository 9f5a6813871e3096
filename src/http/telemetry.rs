//! Requests as an isolate counts them until their tenant's object has them,
//! and what is served of them.

use super::route::Route;
use crate::domain::rate_limit::LimitClass;
use crate::domain::telemetry::{self, Batch, CLASSES, NO_ROUTE, Reading};
use crate::domain::time::{SECOND_MS, Timestamp};
use ::http::{Method, StatusCode};
use serde::Serialize;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// A task that was started so long ago has ended, one way or the other: the
/// runtime lets one live for 30 s after the reply.
const TASK_GONE_MS: i64 = 30 * SECOND_MS;

/// What is counted and not handed over. It waits in memory, so that no request
/// waits for it, and is lost with the isolate: two seconds of requests, or all
/// since the object was last in reach.
#[derive(Default)]
pub struct Pending {
    tenants: RefCell<HashMap<String, Tenant>>,
    /// When the task that hands over was started.
    task_since: Cell<Option<Timestamp>>,
}

/// Bounded: by routes, statuses, and the minutes that a batch tells apart.
#[derive(Default)]
struct Tenant {
    open: Batch,
    /// On its way, or come back: it may have landed, so it goes out again under
    /// the same id, and nothing is added to it.
    sent: Option<(Rc<str>, Rc<Batch>)>,
}

impl Pending {
    pub fn record<H: Copy>(
        &self,
        tenant_id: &str,
        route: Option<&Route<H>>,
        method: &Method,
        status: StatusCode,
        at: Timestamp,
        duration_ms: u64,
    ) {
        let endpoint = telemetry::Endpoint {
            route: Cow::Borrowed(route.map_or(NO_ROUTE, |route| route.id)),
            method: Cow::Borrowed(method_name(method)),
        };
        let class = route.map_or(LimitClass::Default, |route| route.limit);
        let mut tenants = self.tenants.borrow_mut();
        if !tenants.contains_key(tenant_id) {
            tenants.insert(tenant_id.to_owned(), Tenant::default());
        }
        if let Some(tenant) = tenants.get_mut(tenant_id) {
            tenant.open.record(endpoint, class, status.as_u16(), at, duration_ms);
        }
    }

    /// Whether a task is to be started at `now`: there is none, and there is
    /// something to hand over.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let has_task = self.task_since.get().is_some_and(|at| now.since_ms(at) < TASK_GONE_MS);
        if has_task || self.tenants.borrow().is_empty() {
            return false;
        }
        self.task_since.set(Some(now));
        true
    }

    /// The task begins, and whose counts it is to hand over. From here on a
    /// request starts a task of its own: this one may have passed its tenant by.
    pub fn begin(&self) -> Vec<String> {
        self.task_since.set(None);
        self.tenants.borrow().keys().cloned().collect()
    }

    /// What is to go out next of this tenant; `None`: there is nothing left.
    pub fn next(
        &self,
        tenant_id: &str,
        id: impl FnOnce() -> Option<Rc<str>>,
    ) -> Option<(Rc<str>, Rc<Batch>)> {
        let mut tenants = self.tenants.borrow_mut();
        let tenant = tenants.get_mut(tenant_id)?;
        if tenant.sent.is_none() && !tenant.open.is_empty() {
            tenant.sent = Some((id()?, Rc::new(std::mem::take(&mut tenant.open))));
        }
        let next = tenant.sent.clone();
        if next.is_none() {
            tenants.remove(tenant_id);
        }
        next
    }

    pub fn landed(&self, tenant_id: &str, id: &str) {
        if let Some(tenant) = self.tenants.borrow_mut().get_mut(tenant_id) {
            tenant.sent.take_if(|(sent, _)| sent.as_ref() == id);
        }
    }
}

/// A method may be any word; what is counted by it must stay small.
fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("OTHER")
}

/// How this service did, as it counted itself.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ServiceOut {
    /// The first minute that was counted for the tenant; null: none was yet.
    /// Requests without a valid credential belong to the default tenant.
    pub counting_since: Option<Timestamp>,
    /// Requests of the last 60 minutes, the current one included, by class of
    /// rate limit. Counts arrive a few seconds after the requests.
    pub last_hour: BTreeMap<LimitClass, ServiceClassOut>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ServiceClassOut {
    pub requests: u64,
    /// Answered with 4xx.
    pub refused: u64,
    /// Answered with 5xx.
    pub errors: u64,
    /// Median duration in seconds, estimated from buckets; null without a
    /// request. A duration is time spent waiting for storage and network: the
    /// platform's clock stands still while a request computes, so one that
    /// waits for nothing takes 0.
    pub p50_s: Option<f64>,
    /// 95th percentile of the durations in seconds, likewise.
    pub p95_s: Option<f64>,
}

impl ServiceOut {
    pub fn of(reading: &Reading) -> Self {
        let class_of = |class: LimitClass| {
            let window = reading.last_hour.get(&class).cloned().unwrap_or_default();
            let out = ServiceClassOut {
                requests: window.requests,
                refused: window.refused,
                errors: window.errors,
                p50_s: window.durations.quantile_s(0.5),
                p95_s: window.durations.quantile_s(0.95),
            };
            (class, out)
        };
        Self {
            counting_since: reading.since,
            last_hour: CLASSES.into_iter().map(class_of).collect(),
        }
    }
}
