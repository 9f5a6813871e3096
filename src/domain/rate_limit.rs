//! Rate limits: an exact sliding log of 60 s kept by one object per client,
//! and the leases of tokens that isolates take from it, so that most requests
//! ask nobody.
//!
//! Never more than the limit pass in any 60 s. A token counts from its grant
//! until 60 s after the instant at which it was used, or, as long as nobody
//! has told, until 60 s after the last instant at which it could have been.
//! So for any window of 60 s, take the last grant of a request that passed in
//! it: all other requests that passed in it still counted at that grant, and
//! a grant is made only while the sum stays within the limit.
//!
//! No two clocks are compared: an isolate counts the time that has passed
//! since it *asked* for a lease and adds it to the object's time of the grant,
//! which is never earlier than the truth. Only an object that is started anew
//! elsewhere reads what another clock wrote; it lets that count for
//! [`CLOCK_SKEW_MS`] longer.

use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Every limit is so many requests in this time, in milliseconds.
pub const WINDOW_MS: i64 = 60_000;

/// A lease may be used for this long. Longer ones save calls for slow clients
/// and keep tokens longer from others when an isolate is gone.
pub const LEASE_MS: i64 = 10_000;

/// Most tokens of a lease; of a limit that was raised beyond 1,000, one in a
/// hundred of it.
pub const MAX_LEASE_TOKENS: u32 = 10;

/// With fewer tokens left than this they are given one by one.
const SCARCE_TOKENS: u32 = 8;

/// How far two clocks of the platform may be apart.
pub const CLOCK_SKEW_MS: i64 = 1_000;

/// A client that goes on sending for so long while it is limited is blocked.
pub const DEFIANCE_MS: i64 = 5 * 60_000;

/// How long a block lasts.
pub const BLOCK_MS: i64 = 15 * 60_000;

/// A pause this long in between ends a spell of defiance.
const DEFIANCE_PAUSE_MS: i64 = 60_000;

/// Isolates answer for so long from a refusal that they remember.
pub const REFUSAL_KEPT_MS: i64 = 1_000;

/// Which budget a request draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LimitClass {
    Default,
    /// A scraper of its own budget: a dashboard of the same user must not
    /// starve it.
    Metrics,
    Decisions,
    /// By address.
    Login,
    /// Logins of one account, from wherever.
    Account,
    Ingest,
    Documents,
}

impl LimitClass {
    pub const ALL: [Self; 7] = [
        Self::Default,
        Self::Metrics,
        Self::Decisions,
        Self::Login,
        Self::Account,
        Self::Ingest,
        Self::Documents,
    ];

    /// The name of its policy in `RateLimit-Policy`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Metrics => "metrics",
            Self::Decisions => "decisions",
            Self::Login => "login",
            Self::Account => "account",
            Self::Ingest => "ingest",
            Self::Documents => "documents",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// Requests in any 60 s by class, and in a day (UTC) altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Limits {
    /// Of one client: everything that has no class of its own.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 1_000_000)))]
    pub default: u32,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 1_000_000)))]
    pub metrics: u32,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 1_000_000)))]
    pub decisions: u32,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 1_000_000)))]
    pub ingest: u32,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 1_000_000)))]
    pub documents: u32,
    /// Requests of the whole tenant in a day.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 1_000_000_000)))]
    pub daily_tenant: u32,
    /// Requests with one API key in a day.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 1_000_000_000)))]
    pub daily_key: u32,
}

/// Bounds of a limit per 60 s, and of one per day.
pub const MAX_LIMIT: u32 = 1_000_000;
pub const MAX_DAILY: u32 = 1_000_000_000;

/// Logins from one address in 60 s, and of one account. No tenant changes
/// them: whoever tries a password belongs to none.
pub const LOGINS_PER_ADDRESS: u32 = 10;
pub const LOGINS_PER_ACCOUNT: u32 = 5;

impl Default for Limits {
    fn default() -> Self {
        Self {
            default: 100,
            metrics: 100,
            decisions: 30,
            ingest: 600,
            documents: 300,
            daily_tenant: 100_000,
            daily_key: 100_000,
        }
    }
}

impl Limits {
    pub const fn of(&self, class: LimitClass) -> u32 {
        match class {
            LimitClass::Default => self.default,
            LimitClass::Metrics => self.metrics,
            LimitClass::Decisions => self.decisions,
            LimitClass::Login => LOGINS_PER_ADDRESS,
            LimitClass::Account => LOGINS_PER_ACCOUNT,
            LimitClass::Ingest => self.ingest,
            LimitClass::Documents => self.documents,
        }
    }
}

/// What became of a lease: how many of its tokens were used how many
/// milliseconds after the grant; the rest was not and never will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    pub lease: i64,
    pub uses: Vec<(u32, u32)>,
}

// ---- the object's side ---------------------------------------------------------------------------

/// Tokens that an isolate may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: i64,
    pub tokens: u32,
    pub usable_until: Timestamp,
    /// Written by an instance with another clock.
    pub foreign: bool,
}

impl Lease {
    /// Until when its tokens count if nobody says what became of them.
    fn counts_until(&self) -> Timestamp {
        self.usable_until.plus_ms(WINDOW_MS + if self.foreign { CLOCK_SKEW_MS } else { 0 })
    }
}

/// The requests of one client and class that count now.
#[derive(Clone, Debug, Default)]
pub struct SlidingLog {
    /// Requests that passed, by the instant from which they count no longer.
    passed: BTreeMap<Timestamp, u32>,
    leases: BTreeMap<i64, Lease>,
    /// The sum of both.
    counted: u32,
}

/// A lease that was just granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub lease: Lease,
    /// Tokens left after it.
    pub remaining: u32,
    /// When the first of the requests counted before it leaves the window.
    pub frees_at: Option<Timestamp>,
}

impl SlidingLog {
    /// A request that passed at `at`, read back after a restart.
    pub fn restore_pass(&mut self, at: Timestamp, tokens: u32) {
        self.count(at.plus_ms(WINDOW_MS + CLOCK_SKEW_MS), tokens);
    }

    /// A lease read back after a restart.
    pub fn restore_lease(&mut self, lease: Lease) {
        self.counted = self.counted.saturating_add(lease.tokens);
        self.leases.insert(lease.id, Lease { foreign: true, ..lease });
    }

    fn count(&mut self, until: Timestamp, tokens: u32) {
        let counted = self.passed.entry(until).or_default();
        *counted = counted.saturating_add(tokens);
        self.counted = self.counted.saturating_add(tokens);
    }

    /// Lets go of what counts no longer.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some(entry) = self.passed.first_entry().filter(|entry| *entry.key() <= now) {
            self.counted = self.counted.saturating_sub(entry.remove());
        }
        let counted = &mut self.counted;
        self.leases.retain(|_, lease| {
            let counts = lease.counts_until() > now;
            if !counts {
                *counted = counted.saturating_sub(lease.tokens);
            }
            counts
        });
    }

    /// Takes back a lease. Returns its tokens that were used, by instant, and
    /// how many were not; `None` where it is not known (any more).
    pub fn settle(&mut self, settlement: &Settlement) -> Option<(Vec<(Timestamp, u32)>, u32)> {
        let lease = self.leases.remove(&settlement.lease)?;
        self.counted = self.counted.saturating_sub(lease.tokens);
        let mut unused = lease.tokens;
        let mut used = Vec::new();
        let granted_at = lease.usable_until.plus_ms(-LEASE_MS);
        for (after_ms, tokens) in &settlement.uses {
            // Whatever is claimed: not more than was granted, and not later
            // than was possible.
            let tokens = (*tokens).min(unused);
            let at = granted_at.plus_ms(i64::from(*after_ms).min(LEASE_MS));
            if tokens > 0 {
                unused -= tokens;
                let skew_ms = if lease.foreign { CLOCK_SKEW_MS } else { 0 };
                self.count(at.plus_ms(WINDOW_MS + skew_ms), tokens);
                used.push((at, tokens));
            }
        }
        Some((used, unused))
    }

    /// Tokens that are left. Call [`SlidingLog::expire`] before.
    pub fn remaining(&self, limit: u32) -> u32 {
        limit.saturating_sub(self.counted)
    }

    /// Requests that count now, those that may still come of leases included.
    pub fn counted(&self) -> u32 {
        self.counted
    }

    /// Of these, the tokens of leases.
    pub fn leased(&self) -> u32 {
        self.leases.values().map(|lease| lease.tokens).sum()
    }

    /// When the first of what counts now will count no longer.
    pub fn frees_at(&self) -> Option<Timestamp> {
        let of_passed = self.passed.keys().next().copied();
        let of_leases = self.leases.values().map(Lease::counts_until).min();
        [of_passed, of_leases].into_iter().flatten().min()
    }

    /// When the last of it will.
    pub fn idle_at(&self) -> Option<Timestamp> {
        let of_passed = self.passed.keys().next_back().copied();
        let of_leases = self.leases.values().map(Lease::counts_until).max();
        [of_passed, of_leases].into_iter().flatten().max()
    }

    /// Grants up to `want` tokens, or none where the limit is reached.
    pub fn grant(&mut self, id: i64, limit: u32, want: u32, now: Timestamp) -> Option<Grant> {
        self.expire(now);
        let before = self.remaining(limit);
        if before == 0 {
            return None;
        }
        let frees_at = self.frees_at();
        let tokens = lease_tokens(want, before, limit);
        let lease = Lease { id, tokens, usable_until: now.plus_ms(LEASE_MS), foreign: false };
        self.leases.insert(id, lease);
        self.counted = self.counted.saturating_add(tokens);
        Some(Grant { lease, remaining: before - tokens, frees_at })
    }
}

/// A quarter of what is left at most, so that no isolate can take it all.
fn lease_tokens(want: u32, remaining: u32, limit: u32) -> u32 {
    if remaining < SCARCE_TOKENS {
        return 1;
    }
    want.clamp(1, MAX_LEASE_TOKENS.max(limit / 100).min(remaining / 4))
}

/// Whether a client minds what it is told, over its refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conduct {
    /// First of a row of requests sent before the time that was named to the
    /// client, without a pause.
    pub defiant_since: Option<Timestamp>,
    pub last_defiant: Option<Timestamp>,
    /// What `Retry-After` said last.
    pub told_to_wait_until: Option<Timestamp>,
    pub blocked_until: Option<Timestamp>,
}

impl Conduct {
    /// Notes a refusal, with the time that the client is told to wait for.
    /// True where this one leads to a block.
    pub fn refused(&mut self, now: Timestamp, retry_at: Timestamp) -> bool {
        let defiant = self.told_to_wait_until.is_some_and(|until| now < until);
        self.told_to_wait_until = self.told_to_wait_until.max(Some(retry_at));
        if !defiant {
            return false;
        }
        let goes_on = self.last_defiant.is_some_and(|last| now.since_ms(last) < DEFIANCE_PAUSE_MS);
        let since = self.defiant_since.filter(|_| goes_on).unwrap_or(now);
        self.defiant_since = Some(since);
        self.last_defiant = Some(now);
        let blocked = now.since_ms(since) >= DEFIANCE_MS;
        if blocked {
            *self = Self { blocked_until: Some(now.plus_ms(BLOCK_MS)), ..Self::default() };
        }
        blocked
    }

    pub fn blocked_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.blocked_until.filter(|until| *until > now)
    }

    /// When there is nothing left to remember.
    pub fn idle_at(&self) -> Option<Timestamp> {
        let pause_ends = self.last_defiant.map(|last| last.plus_ms(DEFIANCE_PAUSE_MS));
        [pause_ends, self.told_to_wait_until, self.blocked_until].into_iter().flatten().max()
    }
}

// ---- the isolate's side --------------------------------------------------------------------------

/// A lease as an isolate holds it.
#[derive(Clone, Debug)]
struct HeldLease {
    id: i64,
    size: u32,
    left: u32,
    asked_at: Timestamp,
    granted_at: Timestamp,
    usable_until: Timestamp,
    /// Milliseconds after the grant, and tokens.
    uses: Vec<(u32, u32)>,
}

impl HeldLease {
    /// Since the grant, or a little more: what passed since the lease was
    /// asked for began before the object answered.
    fn age_ms(&self, now: Timestamp) -> i64 {
        now.since_ms(self.asked_at).max(0)
    }

    fn object_time(&self, now: Timestamp) -> Timestamp {
        self.granted_at.plus_ms(self.age_ms(now))
    }

    /// When the first of its tokens was used.
    fn first_use(&self) -> Option<Timestamp> {
        self.uses.first().map(|(after_ms, _)| self.granted_at.plus_ms(i64::from(*after_ms)))
    }

    fn is_usable(&self, now: Timestamp) -> bool {
        self.left > 0 && self.object_time(now) <= self.usable_until
    }

    fn settlement(self) -> Settlement {
        Settlement { lease: self.id, uses: self.uses }
    }
}

/// A refusal that an isolate remembers, in its own time.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    heard_at: Timestamp,
    retry_at: Timestamp,
}

/// What the object granted, in its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    pub lease: i64,
    /// At least 1.
    pub tokens: u32,
    pub granted_at: Timestamp,
    pub usable_until: Timestamp,
    pub remaining: u32,
    pub frees_at: Option<Timestamp>,
}

/// What a client is told of its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub remaining: u32,
    /// Until the first request that counts leaves the window, above 0.
    pub frees_in_ms: i64,
}

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Pass(Standing),
    Refuse(Standing),
    /// The object must be asked for up to so many tokens.
    Ask {
        want: u32,
    },
}

/// What the object hears when it is asked for a lease. It is said once: should
/// the message be lost, the object waits until the tokens count no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub settled: Vec<Settlement>,
    /// Refusals given here that the object has not heard of.
    pub refused: u32,
}

/// What an isolate knows of one client and class.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    /// More than one where several requests asked at once.
    leases: Vec<HeldLease>,
    report: Report,
    /// The first use that the report tells of.
    first_to_tell: Option<Timestamp>,
    refusal: Option<Refusal>,
    /// What the object said last of the rest of the budget.
    remaining_there: u32,
    frees_at: Option<Timestamp>,
    /// Tokens worth asking for, and when that was found.
    demand: Option<(Timestamp, u32)>,
}

impl Allowance {
    /// Decides without asking anybody, if that is possible.
    pub fn decide(&mut self, now: Timestamp) -> Answer {
        if let Some(standing) = self.use_token(now) {
            return Answer::Pass(standing);
        }
        match self.present_refusal(now) {
            Some(refusal) => {
                self.report.refused = self.report.refused.saturating_add(1);
                Answer::Refuse(standing_of(refusal, now))
            }
            None => Answer::Ask { want: self.want(now) },
        }
    }

    /// True where requests are refused here for the moment.
    pub fn is_refusing(&self, now: Timestamp) -> bool {
        !self.leases.iter().any(|lease| lease.is_usable(now)) && self.present_refusal(now).is_some()
    }

    /// What the object must hear with the next question.
    pub fn report(&mut self) -> Report {
        self.first_to_tell = None;
        std::mem::take(&mut self.report)
    }

    /// The object granted what was asked for at `asked_at`; the first token
    /// is for whoever asked.
    pub fn granted(&mut self, granted: &Granted, asked_at: Timestamp, now: Timestamp) -> Answer {
        self.refusal = None;
        self.remaining_there = granted.remaining;
        self.frees_at = granted.frees_at;
        self.leases.push(HeldLease {
            id: granted.lease,
            size: granted.tokens,
            left: granted.tokens,
            asked_at,
            granted_at: granted.granted_at,
            usable_until: granted.usable_until,
            uses: Vec::new(),
        });
        match self.use_token(now) {
            Some(standing) => Answer::Pass(standing),
            // It took longer to come than it is good for.
            None => Answer::Ask { want: 1 },
        }
    }

    /// The object refused; both times are its own. Somebody else's lease may
    /// have come meanwhile.
    pub fn refused(
        &mut self,
        object_now: Timestamp,
        retry_at: Timestamp,
        now: Timestamp,
    ) -> Answer {
        if let Some(standing) = self.use_token(now) {
            return Answer::Pass(standing);
        }
        let wait_ms = retry_at.since_ms(object_now).max(1);
        let refusal = Refusal { heard_at: now, retry_at: now.plus_ms(wait_ms) };
        self.refusal = Some(refusal);
        Answer::Refuse(standing_of(refusal, now))
    }

    fn use_token(&mut self, now: Timestamp) -> Option<Standing> {
        self.put_away(now);
        let lease = self.leases.iter_mut().find(|lease| lease.left > 0)?;
        let at = lease.object_time(now);
        let after_ms = u32::try_from(lease.age_ms(now)).unwrap_or(u32::MAX);
        lease.left -= 1;
        match lease.uses.last_mut() {
            Some((last, uses)) if *last == after_ms => *uses += 1,
            _ => lease.uses.push((after_ms, 1)),
        }
        let left: u32 = self.leases.iter().map(|lease| lease.left).sum();
        let standing = Standing {
            remaining: self.remaining_there.saturating_add(left),
            frees_in_ms: self.frees_in_ms(at),
        };
        self.put_away(now);
        Some(standing)
    }

    /// Leases that are used up or over go into the next report.
    fn put_away(&mut self, now: Timestamp) {
        for lease in self.leases.extract_if(.., |lease| !lease.is_usable(now)) {
            let used = lease.size - lease.left;
            // Twice what was used up in time; else what was used: a client
            // that comes rarely, or to many isolates, ties up little.
            let demand = if lease.left == 0 { used.saturating_mul(2) } else { used };
            self.demand = Some((now, demand));
            self.first_to_tell = self.first_to_tell.into_iter().chain(lease.first_use()).min();
            self.report.settled.push(lease.settlement());
        }
    }

    fn want(&self, now: Timestamp) -> u32 {
        let recent = self.demand.filter(|(found_at, _)| now.since_ms(*found_at) < LEASE_MS);
        recent.map_or(1, |(_, demand)| demand.max(1))
    }

    fn present_refusal(&self, now: Timestamp) -> Option<Refusal> {
        self.refusal.filter(|refusal| {
            (0..REFUSAL_KEPT_MS).contains(&now.since_ms(refusal.heard_at)) && refusal.retry_at > now
        })
    }

    /// From `at`, in the object's time, until the first request leaves the
    /// window, be it one the object knew of or one it has yet to hear of.
    fn frees_in_ms(&self, at: Timestamp) -> i64 {
        let held = self.leases.iter().filter_map(HeldLease::first_use);
        let own = held.chain(self.first_to_tell).map(|first| first.plus_ms(WINDOW_MS));
        let first = own.chain(self.frees_at).filter(|frees_at| *frees_at > at).min();
        first.map_or(WINDOW_MS, |first| first.since_ms(at))
    }
}

fn standing_of(refusal: Refusal, now: Timestamp) -> Standing {
    Standing { remaining: 0, frees_in_ms: refusal.retry_at.since_ms(now).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + ms)
    }

    /// One isolate, one object, one clock: how a lone client fares.
    struct Lone {
        log: SlidingLog,
        allowance: Allowance,
        calls: u32,
        limit: u32,
    }

    impl Lone {
        fn new(limit: u32) -> Self {
            Self { log: SlidingLog::default(), allowance: Allowance::default(), calls: 0, limit }
        }

        fn send(&mut self, now: Timestamp) -> Answer {
            let want = match self.allowance.decide(now) {
                Answer::Ask { want } => want,
                answered => return answered,
            };
            self.calls += 1;
            for settlement in self.allowance.report().settled {
                self.log.settle(&settlement);
            }
            match self.log.grant(i64::from(self.calls), self.limit, want, now) {
                Some(grant) => self.allowance.granted(&told(&grant, now), now, now),
                None => {
                    let retry_at = self.log.frees_at().unwrap();
                    self.allowance.refused(now, retry_at, now)
                }
            }
        }

        #[track_caller]
        fn passes(&mut self, now: Timestamp) -> Standing {
            match self.send(now) {
                Answer::Pass(standing) => standing,
                other => panic!("{other:?} at {}", now.since_ms(at(0))),
            }
        }

        #[track_caller]
        fn refused(&mut self, now: Timestamp) -> Standing {
            match self.send(now) {
                Answer::Refuse(standing) => standing,
                other => panic!("{other:?} at {}", now.since_ms(at(0))),
            }
        }
    }

    fn told(grant: &Grant, granted_at: Timestamp) -> Granted {
        Granted {
            lease: grant.lease.id,
            tokens: grant.lease.tokens,
            granted_at,
            usable_until: grant.lease.usable_until,
            remaining: grant.remaining,
            frees_at: grant.frees_at,
        }
    }

    #[test]
    fn a_lone_client_gets_its_limit_and_not_one_more() {
        for limit in [1, 2, 5, 8, 10, 30, 100, 600] {
            for spacing_ms in [0, 1, 7, 90] {
                let mut client = Lone::new(limit);
                let mut now = at(0);
                for count in 1..=limit {
                    let standing = client.passes(now);
                    assert_eq!(standing.remaining, limit - count, "exact, lease or not");
                    assert_eq!(standing.frees_in_ms, WINDOW_MS - now.since_ms(at(0)), "the first");
                    now = now.plus_ms(spacing_ms);
                }
                let standing = client.refused(now);
                assert_eq!(standing.frees_in_ms, WINDOW_MS - now.since_ms(at(0)));
                // Not a moment before the first one leaves the window; then at once.
                client.refused(at(WINDOW_MS - 1));
                client.passes(at(WINDOW_MS));
            }
        }
    }

    #[test]
    fn most_requests_ask_nobody() {
        let mut client = Lone::new(100);
        // One request a second for ten minutes.
        for second in 0..600 {
            client.passes(at(second * 1_000));
        }
        let per_request = f64::from(client.calls) / 600.0;
        assert!(per_request < 0.15, "{per_request}");
    }

    #[test]
    fn a_rare_client_ties_up_one_token_at_a_time() {
        let mut client = Lone::new(100);
        for minute in 0..5 {
            let standing = client.passes(at(minute * 30_000));
            assert!(standing.remaining >= 97, "{standing:?}");
        }
    }

    #[test]
    fn leases_shrink_as_the_limit_comes_near() {
        let mut log = SlidingLog::default();
        let sizes: Vec<u32> =
            (0..30).map_while(|id| Some(log.grant(id, 100, 99, at(0))?.lease.tokens)).collect();
        assert_eq!(
            sizes,
            [10, 10, 10, 10, 10, 10, 10, 7, 5, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1],
            "a quarter of what is left, at most 10, one by one below 8"
        );
        assert_eq!(sizes.iter().sum::<u32>(), 100);
    }

    #[test]
    fn an_unused_lease_comes_back() {
        let mut log = SlidingLog::default();
        log.grant(1, 8, 2, at(0)).unwrap();
        assert_eq!(log.remaining(8), 6);
        // Told of: at once.
        let unused = Settlement { lease: 1, uses: vec![(5_000, 1)] };
        assert_eq!(log.settle(&unused), Some((vec![(at(5_000), 1)], 1)));
        assert_eq!(log.remaining(8), 7);
        assert_eq!(log.settle(&unused), None, "once");
        // Not told of: when its tokens cannot count any more.
        log.grant(2, 8, 2, at(6_000)).unwrap();
        log.expire(at(65_000));
        assert_eq!(log.remaining(8), 7, "the used one has left");
        log.expire(at(6_000 + LEASE_MS + WINDOW_MS - 1));
        assert_eq!(log.remaining(8), 7);
        log.expire(at(6_000 + LEASE_MS + WINDOW_MS));
        assert_eq!(log.remaining(8), 8);
    }

    #[test]
    fn a_report_claims_no_more_than_was_granted() {
        let mut log = SlidingLog::default();
        log.grant(1, 100, 4, at(0)).unwrap();
        let boast = Settlement { lease: 1, uses: vec![(0, 3), (90_000, 99)] };
        assert_eq!(log.settle(&boast), Some((vec![(at(0), 3), (at(LEASE_MS), 1)], 0)));
    }

    #[test]
    fn a_client_that_does_not_wait_is_blocked_after_five_minutes() {
        let mut conduct = Conduct::default();
        let mut now = at(0);
        let mut sent = 0;
        while !conduct.refused(now, now.plus_ms(20_000)) {
            sent += 1;
            now = now.plus_ms(1_000);
            assert!(sent < 1_000);
        }
        assert_eq!(now.since_ms(at(0)), DEFIANCE_MS + 1_000, "since its second request");
        assert_eq!(conduct.blocked_until(now), Some(now.plus_ms(BLOCK_MS)));
        assert_eq!(conduct.blocked_until(now.plus_ms(BLOCK_MS)), None);
    }

    #[test]
    fn a_client_that_waits_as_it_is_told_is_never_blocked() {
        let mut conduct = Conduct::default();
        for round in 0..1_000 {
            let now = at(round * 17_000);
            assert!(!conduct.refused(now, now.plus_ms(17_000)));
        }
        // Nor is one that pauses for a minute.
        let mut conduct = Conduct::default();
        for round in 0..1_000 {
            let now = at(round * DEFIANCE_PAUSE_MS);
            assert!(!conduct.refused(now, now.plus_ms(90_000)));
        }
    }

    // ---- the law: never more than the limit pass in any 60 s --------------------------------------

    #[derive(Clone, Debug)]
    struct Step {
        /// Time passes.
        after_ms: i64,
        isolate: usize,
        /// Requests that arrive there together: they ask at the same moment.
        requests: usize,
        network: Network,
        /// Round trip to the object, in ms.
        trip_ms: i64,
        event: Event,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Network {
        Works,
        /// The question does not arrive.
        Lost,
        /// It arrives; the reply does not.
        ReplyLost,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Event {
        None,
        /// The isolate goes, with all it knows.
        IsolateGone,
        /// The object starts anew, on a machine with another clock.
        ObjectMoved {
            clock_ms: i64,
        },
        /// The object stores what became of leases, as its alarm does.
        ObjectSaves,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (
            prop_oneof![
                4 => 0..50_i64,
                4 => 0..3_000_i64,
                1 => 9_000..11_000_i64,
                1 => 0..70_000_i64,
            ],
            0..6_usize,
            prop_oneof![3 => 1..3_usize, 1 => 1..40_usize],
            prop_oneof![8 => Just(Network::Works), 1 => Just(Network::Lost), 1 => Just(Network::ReplyLost)],
            prop_oneof![3 => Just(0_i64), 1 => 0..400_i64],
            prop_oneof![
                12 => Just(Event::None),
                1 => Just(Event::IsolateGone),
                1 => (0..=500_i64).prop_map(|clock_ms| Event::ObjectMoved { clock_ms }),
                1 => (-500..=0_i64).prop_map(|clock_ms| Event::ObjectMoved { clock_ms }),
                2 => Just(Event::ObjectSaves),
            ],
        );
        let step = step.prop_map(|(after_ms, isolate, requests, network, trip_ms, event)| Step {
            after_ms,
            isolate,
            requests,
            network,
            trip_ms,
            event,
        });
        proptest::collection::vec(step, 1..200)
    }

    /// The object with what it has stored: passes and leases as they stand in
    /// its tables, in the time of whichever clock wrote them.
    #[derive(Default)]
    struct Object {
        log: SlidingLog,
        passes: Vec<(Timestamp, u32)>,
        leases: Vec<Lease>,
        /// In memory only, until it is saved.
        unsaved: Vec<(i64, Vec<(Timestamp, u32)>)>,
        clock_ms: i64,
        next_id: i64,
    }

    impl Object {
        fn restart(&mut self, clock_ms: i64) {
            self.clock_ms = clock_ms;
            self.log = SlidingLog::default();
            self.unsaved.clear();
            for (at, tokens) in &self.passes {
                self.log.restore_pass(*at, *tokens);
            }
            for lease in &self.leases {
                self.log.restore_lease(*lease);
            }
        }

        fn save(&mut self) {
            for (id, used) in self.unsaved.drain(..) {
                self.leases.retain(|lease| lease.id != id);
                self.passes.extend(used);
            }
        }

        fn take(
            &mut self,
            report: &Report,
            want: u32,
            limit: u32,
            now: Timestamp,
        ) -> Result<Granted, (Timestamp, Timestamp)> {
            let now = now.plus_ms(self.clock_ms);
            for settlement in &report.settled {
                if let Some((used, _)) = self.log.settle(settlement) {
                    self.unsaved.push((settlement.lease, used));
                }
            }
            self.next_id += 1;
            match self.log.grant(self.next_id, limit, want, now) {
                Some(grant) => {
                    self.leases.push(grant.lease);
                    Ok(told(&grant, now))
                }
                None => Err((now, self.log.frees_at().unwrap())),
            }
        }
    }

    /// Runs the steps; the true instants at which requests passed.
    fn simulate(steps: &[Step], limit: u32) -> Vec<i64> {
        let mut object = Object::default();
        let mut isolates: Vec<Allowance> = vec![Allowance::default(); 6];
        // Each isolate's clock is off by a constant of its own.
        let offset_ms = [0, 500, -500, 250, -400, 1];
        let mut true_ms = 0;
        let mut passed = Vec::new();
        for step in steps {
            true_ms += step.after_ms;
            match step.event {
                Event::None => {}
                Event::IsolateGone => isolates[step.isolate] = Allowance::default(),
                Event::ObjectMoved { clock_ms } => object.restart(clock_ms),
                Event::ObjectSaves => object.save(),
            }
            let allowance = &mut isolates[step.isolate];
            let local = |true_ms: i64| at(true_ms + offset_ms[step.isolate]);
            let asked_at = local(true_ms);
            // All of them look before the first reply is there.
            let asking: Vec<(Report, u32)> = (0..step.requests)
                .filter_map(|_| match allowance.decide(asked_at) {
                    Answer::Pass(_) => {
                        passed.push(true_ms);
                        None
                    }
                    Answer::Refuse(_) => None,
                    Answer::Ask { want } => Some((allowance.report(), want)),
                })
                .collect();
            // The questions arrive half-way.
            let replies: Vec<_> = asking
                .iter()
                .filter(|_| step.network != Network::Lost)
                .map(|(report, want)| {
                    object.take(report, *want, limit, at(true_ms + step.trip_ms / 2))
                })
                .collect();
            true_ms += step.trip_ms;
            if step.network != Network::Works {
                continue;
            }
            for reply in replies {
                let now = local(true_ms);
                let answer = match reply {
                    Ok(granted) => allowance.granted(&granted, asked_at, now),
                    Err((object_now, retry_at)) => allowance.refused(object_now, retry_at, now),
                };
                if matches!(answer, Answer::Pass(_)) {
                    passed.push(true_ms);
                }
            }
        }
        passed
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn never_more_than_the_limit_pass_in_any_window(
            steps in steps(),
            limit in prop_oneof![Just(5_u32), Just(30), Just(100)],
        ) {
            let passed = simulate(&steps, limit);
            let mut first = 0;
            for (index, instant) in passed.iter().enumerate() {
                while instant - passed[first] >= WINDOW_MS {
                    first += 1;
                }
                prop_assert!(index + 1 - first <= limit as usize, "{passed:?}");
            }
        }

        #[test]
        fn what_is_counted_is_what_the_tables_hold(steps in steps()) {
            // The sum kept beside the entries never drifts from them.
            let mut log = SlidingLog::default();
            let mut now = at(0);
            for (id, step) in steps.iter().enumerate() {
                now = now.plus_ms(step.after_ms);
                let id = id as i64;
                log.grant(id, 100, step.requests as u32, now);
                if step.isolate > 2 {
                    let lease = id - step.isolate as i64;
                    log.settle(&Settlement { lease, uses: vec![(1, 1)] });
                }
                log.expire(now);
                let sum: u32 = log.passed.values().sum::<u32>()
                    + log.leases.values().map(|lease| lease.tokens).sum::<u32>();
                prop_assert_eq!(log.counted(), sum);
                prop_assert!(log.counted() <= 100);
            }
        }
    }
}
