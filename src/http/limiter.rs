//! Rate limits as an isolate keeps them: leases of tokens from the client's
//! object, and what KV says of blocks and of the day.
//!
//! Neither is asked on most requests: a lease serves up to ten of them, and a
//! record of KV is kept for as long as KV itself may be behind.

use super::problem::{Code, Problem};
use super::reply::{Policy, Reply};
use crate::domain::rate_limit::{Allowance, Answer, LimitClass, Limits, Standing, WINDOW_MS};
use crate::domain::time::{DAY_MS, SECOND_MS, Timestamp};
use crate::objects::rate_limit::{self, ClientName, Reply as ObjectReply, Take};
use crate::platform::{Error, Headers, Platform};
use crate::store::kv::{self, ClientRecord, TenantRecord};
use lru::LruCache;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::num::NonZeroUsize;

/// Clients an isolate remembers, the latest ones. At under 1 KB each that is
/// 4 MB of its 128. One that is forgotten costs a question to its object.
pub const CAPACITY: usize = 4_096;

/// Tenants whose day an isolate remembers.
const TENANTS: usize = 1_024;

/// KV may show a change to others only after this time.
const RECORD_KEPT_MS: i64 = 60 * SECOND_MS;

/// What was out of reach is not asked again before this time: each try may
/// take its whole deadline.
const PAUSE_MS: i64 = SECOND_MS;

const DAILY_KEY: &str = "daily-key";
const DAILY_TENANT: &str = "daily-tenant";
const BLOCK: &str = "block";

/// Whom a request counts against, and how.
#[derive(Clone, Debug)]
pub struct Subject {
    pub client: ClientName,
    pub class: LimitClass,
    pub limits: Limits,
    /// It is about the tenant's settings: who has used up the quota of the
    /// day must be able to raise it.
    pub minds_settings: bool,
}

/// What became of counting a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Passed {
        class: LimitClass,
        limit: u32,
        standing: Standing,
        /// False: KV could not be asked for blocks and quotas.
        quotas_known: bool,
    },
    /// The client's object could not be asked.
    Unenforced,
}

#[derive(Default)]
struct Client {
    allowances: Vec<(LimitClass, Allowance)>,
    record: Kept<ClientRecord>,
    /// Its object was out of reach.
    asked_again_at: Timestamp,
}

impl Client {
    fn allowance(&mut self, class: LimitClass) -> &mut Allowance {
        let known = self.allowances.iter().position(|(known, _)| *known == class);
        let index = known.unwrap_or_else(|| {
            self.allowances.push((class, Allowance::default()));
            self.allowances.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found, or pushed just now")]
        &mut self.allowances[index].1
    }
}

/// An entry of KV, or that there is none.
struct Kept<T> {
    read_at: Option<Timestamp>,
    value: Option<T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { read_at: None, value: None }
    }
}

impl<T> Kept<T> {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.read_at.is_some_and(|read_at| now.since_ms(read_at) < RECORD_KEPT_MS)
    }
}

pub struct Limiter {
    clients: RefCell<LruCache<ClientName, Client>>,
    tenants: RefCell<LruCache<String, Kept<TenantRecord>>>,
    kv_asked_again_at: Cell<Timestamp>,
    /// Requests that passed uncounted and of which nobody has heard.
    unenforced: Cell<u64>,
}

impl Default for Limiter {
    fn default() -> Self {
        let capacity = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            clients: RefCell::new(LruCache::new(capacity(CAPACITY))),
            tenants: RefCell::new(LruCache::new(capacity(TENANTS))),
            kv_asked_again_at: Cell::default(),
            unenforced: Cell::default(),
        }
    }
}

impl Limiter {
    /// Counts one request.
    ///
    /// # Errors
    /// 429 where the client is over a limit, over a quota, or blocked.
    pub async fn count(
        &self,
        platform: &Platform,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Counted, Problem> {
        let quotas_known = self.read_records(platform, subject, now).await;
        self.refuse_by_record(subject, now)?;
        let limit = subject.limits.of(subject.class);
        let standing = match self.decide(platform, subject, now).await? {
            Some(Answer::Pass(standing)) => standing,
            Some(Answer::Refuse(standing)) => return Err(over_limit(subject, standing, now)),
            _ => {
                self.unenforced.set(self.unenforced.get().saturating_add(1));
                return Ok(Counted::Unenforced);
            }
        };
        Ok(Counted::Passed { class: subject.class, limit, standing, quotas_known })
    }

    /// The answer from a lease or a remembered refusal, else from the object;
    /// `None` where it is out of reach.
    async fn decide(
        &self,
        platform: &Platform,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Option<Answer>, Problem> {
        let class = subject.class;
        let take = {
            let mut clients = self.clients.borrow_mut();
            let client = clients.get_or_insert_mut_ref(&subject.client, Client::default);
            let allowance = client.allowance(class);
            let want = match allowance.decide(now) {
                // Logins are rare, and no isolate should sit on their tokens.
                Answer::Ask { .. } if matches!(class, LimitClass::Login | LimitClass::Account) => 1,
                Answer::Ask { want } => want,
                answered => return Ok(Some(answered)),
            };
            let report = allowance.report();
            if client.asked_again_at > now {
                return Ok(None);
            }
            Take {
                client: subject.client.clone(),
                class,
                limit: subject.limits.of(class),
                want,
                report,
                daily_key: subject.daily_key(),
                daily_tenant: subject.limits.daily_tenant,
            }
        };
        let reply = rate_limit::take(platform, take).await;
        let replied_at = Timestamp::from_millis(platform.clock.now_ms());
        let mut clients = self.clients.borrow_mut();
        let client = clients.get_or_insert_mut_ref(&subject.client, Client::default);
        let allowance = client.allowance(class);
        match reply {
            Ok(ObjectReply::Granted(granted)) => {
                Ok(Some(allowance.granted(&granted, now, replied_at)))
            }
            Ok(ObjectReply::Refused { now: object_now, retry_at }) => {
                Ok(Some(allowance.refused(object_now, retry_at, replied_at)))
            }
            Ok(ObjectReply::Blocked { until }) => {
                let record = client.record.value.get_or_insert_default();
                record.blocked_until = Some(until);
                client.record.read_at = Some(replied_at);
                Err(blocked(until, now))
            }
            Ok(ObjectReply::QuotaUsed { until }) => {
                Err(over_quota(DAILY_KEY, subject.limits.daily_key, until, now))
            }
            other => {
                client.asked_again_at = replied_at.plus_ms(PAUSE_MS);
                let cause = match other {
                    Err(error) => error.to_string(),
                    Ok(reply) => format!("unexpected reply {reply:?}"),
                };
                warn(platform, replied_at, "the rate limiter cannot be reached", &cause);
                Ok(None)
            }
        }
    }

    /// Whether requests of this client are refused at the moment, as far as is
    /// known here; counts nothing.
    pub fn is_refusing(&self, client: &ClientName, class: LimitClass, now: Timestamp) -> bool {
        let mut clients = self.clients.borrow_mut();
        clients.get_mut(client).is_some_and(|known| known.allowance(class).is_refusing(now))
    }

    /// Forgets what KV said of a client: its block was just lifted here.
    pub fn forget_record(&self, client: &ClientName) {
        if let Some(known) = self.clients.borrow_mut().get_mut(client) {
            // Absence, for a minute: KV would still show the block.
            known.record.value = None;
            known.allowances.clear();
        }
    }

    /// Takes the number of requests that passed uncounted, for somebody to
    /// write down.
    pub fn take_unenforced(&self) -> u64 {
        self.unenforced.take()
    }

    /// Gives it back where that failed.
    pub fn return_unenforced(&self, passed: u64) {
        self.unenforced.set(self.unenforced.get().saturating_add(passed));
    }

    /// Clients remembered now.
    pub fn len(&self) -> usize {
        self.clients.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // ---- what KV says ----

    /// Brings the records of the client and its tenant up to date; false where
    /// KV is out of reach.
    async fn read_records(&self, platform: &Platform, subject: &Subject, now: Timestamp) -> bool {
        let tenant_id = subject.client.tenant_id.as_deref();
        let client_is_fresh = {
            let mut clients = self.clients.borrow_mut();
            let client = clients.get_or_insert_mut_ref(&subject.client, Client::default);
            client.record.is_fresh(now)
        };
        let tenant_is_fresh = tenant_id.is_none_or(|tenant_id| {
            self.tenants.borrow_mut().get(tenant_id).is_some_and(|kept| kept.is_fresh(now))
        });
        if client_is_fresh && tenant_is_fresh {
            return true;
        }
        if self.kv_asked_again_at.get() > now {
            return false;
        }
        let name = subject.client.object_name();
        let read_client = async {
            if client_is_fresh { Ok(None) } else { kv::client(&platform.kv, &name).await.map(Some) }
        };
        let read_tenant = async {
            match tenant_id.filter(|_| !tenant_is_fresh) {
                Some(tenant_id) => kv::tenant(&platform.kv, tenant_id).await.map(Some),
                None => Ok(None),
            }
        };
        let (of_client, of_tenant) = futures::join!(read_client, read_tenant);
        let client_read = self.kept(platform, of_client, now).map(|read| {
            if let Some(value) = read {
                let mut clients = self.clients.borrow_mut();
                let client = clients.get_or_insert_mut_ref(&subject.client, Client::default);
                client.record = Kept { read_at: Some(now), value };
            }
        });
        let tenant_read = self.kept(platform, of_tenant, now).map(|read| {
            if let (Some(value), Some(tenant_id)) = (read, tenant_id) {
                let kept = Kept { read_at: Some(now), value };
                self.tenants.borrow_mut().put(tenant_id.to_owned(), kept);
            }
        });
        client_read.is_some() && tenant_read.is_some()
    }

    fn kept<T>(&self, platform: &Platform, read: Result<T, Error>, now: Timestamp) -> Option<T> {
        read.inspect_err(|error| {
            self.kv_asked_again_at.set(now.plus_ms(PAUSE_MS));
            warn(platform, now, "blocks and quotas cannot be read", &error.to_string());
        })
        .ok()
    }

    fn refuse_by_record(&self, subject: &Subject, now: Timestamp) -> Result<(), Problem> {
        let mut clients = self.clients.borrow_mut();
        if let Some(record) = clients.get_mut(&subject.client).and_then(|c| c.record.value.as_ref())
        {
            if let Some(until) = record.blocked_until.filter(|until| *until > now) {
                return Err(blocked(until, now));
            }
            if let (Some(day), Some(quota)) = (record.day, subject.daily_key())
                && day.has_reached(quota, now)
            {
                return Err(over_quota(DAILY_KEY, quota, day.ends_at(), now));
            }
        }
        let tenant_id = subject.client.tenant_id.as_deref();
        let mut tenants = self.tenants.borrow_mut();
        let record = tenant_id.and_then(|tenant_id| tenants.get(tenant_id)?.value);
        let quota = subject.limits.daily_tenant;
        match record.map(|record| record.day).filter(|day| day.has_reached(quota, now)) {
            Some(day) if !subject.minds_settings => {
                Err(over_quota(DAILY_TENANT, quota, day.ends_at(), now))
            }
            _ => Ok(()),
        }
    }
}

impl Subject {
    fn daily_key(&self) -> Option<u32> {
        self.client.is_key().then_some(self.limits.daily_key)
    }
}

fn warn(platform: &Platform, now: Timestamp, what: &str, cause: &str) {
    crate::log::warn(&platform.log, now, "devskyy.rate_limit", what, cause);
}

// ---- what clients are told -----------------------------------------------------------------------

/// Tells a reply what its request left of the budget.
pub fn tell(reply: &mut Reply, counted: &Counted, now: Timestamp) {
    match counted {
        // The policy that refused a request comes first.
        _ if reply.header("ratelimit").is_some() => {}
        Counted::Passed { class, limit, standing, quotas_known } => {
            reply.policy = Some(policy(class.name(), *limit, WINDOW_MS));
            reply.headers.extend(standing_fields(class.name(), *standing, now));
            if !quotas_known {
                reply.headers.push((STATUS, "quotas-unknown".to_owned()));
            }
        }
        Counted::Unenforced => reply.headers.push((STATUS, "unenforced".to_owned())),
    }
}

/// Says that the limiter, or a part of it, could not be asked.
const STATUS: &str = "x-ratelimit-status";

const fn policy(name: &'static str, quota: u32, window_ms: i64) -> Policy {
    Policy { name, quota, window_s: window_ms / SECOND_MS }
}

/// The field of draft-ietf-httpapi-ratelimit-headers-11, whose `t` is whole
/// seconds until the first request leaves the window, and two of the older
/// trio, whose reset is that instant in Unix seconds. Both are rounded up.
fn standing_fields(
    policy: &str,
    standing: Standing,
    now: Timestamp,
) -> [(&'static str, String); 3] {
    let Standing { remaining, frees_in_ms } = standing;
    let reset_at_ms = now.millis().saturating_add(frees_in_ms);
    let seconds = whole_seconds(frees_in_ms);
    [
        ("ratelimit", format!("\"{policy}\";r={remaining};t={seconds}")),
        ("x-ratelimit-remaining", remaining.to_string()),
        ("x-ratelimit-reset", whole_seconds(reset_at_ms).to_string()),
    ]
}

fn whole_seconds(ms: i64) -> i64 {
    ms.div_euclid(SECOND_MS) + i64::from(ms.rem_euclid(SECOND_MS) > 0)
}

fn over_limit(subject: &Subject, standing: Standing, now: Timestamp) -> Problem {
    let (class, limit) = (subject.class, subject.limits.of(subject.class));
    let seconds = whole_seconds(standing.frees_in_ms);
    let detail = format!(
        "at most {limit} requests of the class \"{}\" pass in any 60 s; \
         the next one does in {seconds} s",
        class.name()
    );
    refusal(Code::RateLimited, detail, class.name(), limit, WINDOW_MS, standing, now)
}

fn over_quota(policy: &'static str, quota: u32, until: Timestamp, now: Timestamp) -> Problem {
    let standing = Standing { remaining: 0, frees_in_ms: until.since_ms(now).max(1) };
    let whose = if policy == DAILY_KEY { "API key" } else { "tenant" };
    let detail = format!("the {whose} may send {quota} requests a day (UTC); it begins at {until}");
    refusal(Code::QuotaExceeded, detail, policy, quota, DAY_MS, standing, now)
}

fn blocked(until: Timestamp, now: Timestamp) -> Problem {
    let seconds = whole_seconds(until.since_ms(now).max(1));
    let detail = format!(
        "requests went on for five minutes although they were refused, without waiting as \
         Retry-After said; blocked until {until}"
    );
    Problem { violated_policy: Some(BLOCK), ..Problem::new(Code::ClientBlocked, detail) }
        .with_header("retry-after", seconds.to_string())
}

fn refusal(
    code: Code,
    detail: String,
    name: &'static str,
    limit: u32,
    window_ms: i64,
    standing: Standing,
    now: Timestamp,
) -> Problem {
    let mut problem = Problem { violated_policy: Some(name), ..Problem::new(code, detail) };
    problem.headers.extend(policy(name, limit, window_ms).fields());
    problem.headers.extend(standing_fields(name, standing, now));
    let seconds = whole_seconds(standing.frees_in_ms);
    problem.with_header("retry-after", seconds.to_string())
}

/// A write, or a login, that cannot be counted is not done.
pub fn unenforceable() -> Problem {
    Problem::new(
        Code::Unavailable,
        "the rate limiter cannot be reached; reads are answered meanwhile, this is not",
    )
    .with_header("retry-after", "2")
}

// ---- who a client is -----------------------------------------------------------------------------

/// The address that Cloudflare saw. It sets this field itself, whatever the
/// client sent; no other field that names an address can be trusted.
const ADDRESS: &str = "cf-connecting-ip";

/// The client of a request without a valid credential: its address. IPv6 by
/// /64, which is what one customer is given.
pub fn address(headers: &Headers) -> ClientName {
    let address = headers.get(ADDRESS).and_then(|text| address_id(&text));
    ClientName { tenant_id: None, id: address.unwrap_or_else(|| "ip:unknown".to_owned()) }
}

/// `ip:203.0.113.7` or `ip:2001:db8:0:1`, the four groups of the /64.
pub fn address_id(text: &str) -> Option<String> {
    let address: IpAddr = text.trim().parse().ok()?;
    Some(match address.to_canonical() {
        IpAddr::V4(address) => format!("ip:{address}"),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("ip:{a:x}:{b:x}:{c:x}:{d:x}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_clients_by_64_bits() {
        for (text, id) in [
            ("203.0.113.7", "ip:203.0.113.7"),
            ("::ffff:203.0.113.7", "ip:203.0.113.7"),
            ("2001:db8:0:1::1", "ip:2001:db8:0:1"),
            ("2001:0DB8:0:1:ffff:ffff:ffff:ffff", "ip:2001:db8:0:1"),
            ("2001:db8:0:2::1", "ip:2001:db8:0:2"),
            ("::1", "ip:0:0:0:0"),
        ] {
            assert_eq!(address_id(text).as_deref(), Some(id), "{text}");
        }
        for bad in ["", "localhost", "203.0.113.7, 198.51.100.1", "203.0.113.7:80", "[::1]", "1"] {
            assert_eq!(address_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!([1, 999, 1_000, 1_001].map(whole_seconds), [1, 1, 1, 2]);
        let standing = Standing { remaining: 3, frees_in_ms: 600 };
        let fields = standing_fields("p", standing, Timestamp::from_millis(5_500));
        let expected = [
            ("ratelimit", "\"p\";r=3;t=1"),
            ("x-ratelimit-remaining", "3"),
            ("x-ratelimit-reset", "7"),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name, value.to_owned())));
        let fields = policy("p", 5, WINDOW_MS).fields();
        let expected = [("ratelimit-policy", "\"p\";q=5;w=60"), ("x-ratelimit-limit", "5")];
        assert_eq!(fields, expected.map(|(name, value)| (name, value.to_owned())));
    }
}
