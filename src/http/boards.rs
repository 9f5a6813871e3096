//! The boards an isolate keeps for up to one second, with everything that is
//! made from them.

use crate::domain::digest::IncidentDigest;
use crate::domain::incident::OpenIncident;
use crate::domain::partnership::{Definition, Summary};
use crate::domain::rate_limit::Limits;
use crate::domain::score::{self, Score};
use crate::domain::telemetry::Reading;
use crate::domain::time::Timestamp;
use crate::domain::verdict::Verdict;
use crate::objects::board::{self, JobFigures, Revocation};
use crate::platform::{Error, Platform};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// A board older than this is not served.
const MAX_AGE_MS: i64 = 1_000;

/// From this age on the first request to see it fetches the next one, while
/// the others go on with this one: under load nobody waits.
const REFRESH_AGE_MS: i64 = 700;

/// Tenants kept; more than an isolate of 128 MB should hold is let go.
const CAPACITY: usize = 64;

/// One tenant's partnerships as they stood at `fetched_at`.
pub struct Board {
    pub fetched_at: Timestamp,
    pub partnerships: Vec<Evaluated>,
    revoked: Vec<Revocation>,
    /// The tenant's rate limits, where the board has been told of them.
    pub limits: Option<Limits>,
    pub counters: BTreeMap<String, u64>,
    /// `None`: nobody has told of any yet.
    pub incidents: Option<IncidentDigest>,
    /// By name of the job; the default tenant's board alone knows.
    pub jobs: BTreeMap<String, JobFigures>,
    /// What was counted of the tenant's requests, once somebody has asked.
    pub reading: RefCell<Option<Rc<Reading>>>,
    /// Bodies made from this board, by the name of the view.
    rendered: RefCell<HashMap<&'static str, Bytes>>,
    /// Somebody is fetching the next one.
    refreshing: Cell<bool>,
}

/// A partnership with what follows from its summary.
pub struct Evaluated {
    pub summary: Summary,
    pub verdict: Verdict,
    pub score: Score,
}

impl Evaluated {
    fn new(summary: Summary, now: Timestamp) -> Self {
        Self {
            verdict: score::current_verdict(&summary, now),
            score: score::evaluate(&summary, now),
            summary,
        }
    }

    /// A partnership of which nothing was measured.
    pub fn unmeasured(definition: Definition, now: Timestamp) -> Self {
        Self::new(Summary::unmeasured(definition, now), now)
    }
}

impl Board {
    fn new(snapshot: board::Snapshot, now: Timestamp) -> Self {
        Self {
            fetched_at: now,
            partnerships: snapshot.summaries.into_iter().map(|s| Evaluated::new(s, now)).collect(),
            revoked: snapshot.revoked,
            limits: snapshot.limits,
            counters: snapshot.counters,
            incidents: snapshot.incidents,
            jobs: snapshot.jobs,
            reading: RefCell::default(),
            rendered: RefCell::default(),
            refreshing: Cell::new(false),
        }
    }

    /// The partnership of this id or alias.
    pub fn find(&self, name: &str) -> Option<&Evaluated> {
        self.partnerships.iter().find(|known| known.summary.definition.is_called(name))
    }

    /// Open incidents of a partnership; `None`: of the service itself.
    pub fn incidents_of(&self, partnership: Option<&str>) -> Vec<OpenIncident> {
        let open = self.incidents.as_ref().map(|digest| digest.open.as_slice());
        let open = open.unwrap_or_default().iter();
        open.filter(|known| known.partnership.as_deref() == partnership).cloned().collect()
    }

    pub fn ids(&self) -> Vec<&str> {
        self.partnerships.iter().map(|known| known.summary.definition.id.as_str()).collect()
    }

    /// Whether the tokens of this user (or API key) issued at this instant are withdrawn.
    pub fn is_revoked(&self, user_id: &str, issued_at: Timestamp) -> bool {
        self.revoked.iter().any(|r| r.user_id == user_id && issued_at <= r.issued_before)
    }

    /// The body of a view, made once per board.
    pub fn rendered(&self, view: &'static str, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        self.kept(view).unwrap_or_else(|| self.keep(view, Bytes::from(make())))
    }

    /// The body of a view that was made for this board already.
    pub fn kept(&self, view: &'static str) -> Option<Bytes> {
        self.rendered.borrow().get(view).cloned()
    }

    pub fn keep(&self, view: &'static str, body: Bytes) -> Bytes {
        self.rendered.borrow_mut().insert(view, body.clone());
        body
    }
}

#[derive(Default)]
pub struct Boards {
    kept: RefCell<HashMap<String, Rc<Board>>>,
    /// Grows whenever a board is forgotten: one that was fetched before that
    /// may be older than the change, and is not kept.
    epoch: Cell<u64>,
}

impl Boards {
    /// The tenant's board, at most a second old.
    pub async fn snapshot(
        &self,
        platform: &Platform,
        tenant_id: &str,
        now: Timestamp,
    ) -> Result<Rc<Board>, Error> {
        let kept = self.kept.borrow().get(tenant_id).cloned();
        if let Some(board) = kept {
            let age_ms = now.since_ms(board.fetched_at);
            let fresh = age_ms < REFRESH_AGE_MS;
            if fresh || (age_ms < MAX_AGE_MS && board.refreshing.replace(true)) {
                return Ok(board);
            }
        }
        let epoch = self.epoch.get();
        let snapshot = board::snapshot(platform, tenant_id).await?;
        // The instant of the answer, which the isolate has just seen.
        let now = Timestamp::from_millis(platform.clock.now_ms());
        let board = Rc::new(Board::new(snapshot, now));
        let mut boards = self.kept.borrow_mut();
        if boards.len() >= CAPACITY {
            boards.retain(|_, board| now.since_ms(board.fetched_at) < MAX_AGE_MS);
        }
        if boards.len() < CAPACITY && self.epoch.get() == epoch {
            boards.insert(tenant_id.to_owned(), Rc::clone(&board));
        }
        Ok(board)
    }

    /// Forgets a tenant's board after a change made here, so that who changed
    /// something sees it in his next request.
    pub fn forget(&self, tenant_id: &str) {
        self.epoch.set(self.epoch.get().wrapping_add(1));
        self.kept.borrow_mut().remove(tenant_id);
    }
}
