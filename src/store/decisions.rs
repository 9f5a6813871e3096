//! `decisions`, `decision_outcomes` and `receipt_keys`: what was asked, what
//! was answered, for whom, and what became of it.

use crate::domain::decision::conclusion::Kind;
use crate::domain::decision::quality::{Fate, Judged};
use crate::domain::time::Timestamp;
use crate::platform::sql::{Row, Statement};
use crate::platform::{Database, Error, ErrorKind};

pub struct Decision<'a> {
    pub id: &'a str,
    pub tenant_id: &'a str,
    pub kind: Kind,
    pub decision: &'a str,
    /// The context as it was asked, JSON.
    pub inputs: &'a str,
    /// The receipt, canonical JSON.
    pub receipt: &'a str,
    pub author_id: &'a str,
    pub created_at: Timestamp,
    pub policy_id: &'a str,
    pub policy_version: i64,
    /// JSON.
    pub signature: &'a str,
    pub confidence: Option<f64>,
    /// JSON.
    pub narrative: Option<&'a str>,
}

pub fn insert(decision: &Decision<'_>) -> Statement {
    Statement::new(
        "INSERT INTO decisions (id, tenant_id, kind, decision, inputs, reply, author_id, \
         created_at, policy_id, policy_version, signature, confidence, narrative) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )
    .bind(decision.id)
    .bind(decision.tenant_id)
    .bind(decision.kind.name())
    .bind(decision.decision)
    .bind(decision.inputs)
    .bind(decision.receipt)
    .bind(decision.author_id)
    .bind(decision.created_at.millis())
    .bind(decision.policy_id)
    .bind(decision.policy_version)
    .bind(decision.signature)
    .bind(decision.confidence)
    .bind(decision.narrative)
}

/// Decisions of a tenant so far.
pub async fn count(database: &Database, tenant_id: &str) -> Result<u64, Error> {
    let query = Statement::new("SELECT COUNT(*) AS n FROM decisions WHERE tenant_id = ?1");
    let rows = database.query(query.bind(tenant_id)).await?;
    rows.first().map_or(Ok(0), |row| row.get("n"))
}

/// A decision in short.
pub struct Summary {
    pub id: String,
    pub kind: String,
    pub decision: String,
    pub confidence: Option<f64>,
    pub author_id: String,
    pub created_at: Timestamp,
}

/// Which decisions a list is of; `None` is any.
#[derive(Default)]
pub struct Filter {
    pub kind: Option<Kind>,
    pub author_id: Option<String>,
    pub decision: Option<String>,
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
}

/// Decisions of a tenant, newest first, from before the one of this id.
pub async fn list(
    database: &Database,
    tenant_id: &str,
    filter: &Filter,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<Summary>, Error> {
    // Ids are UUIDv7, in the order of time.
    let query = Statement::new(
        "SELECT id, kind, decision, confidence, author_id, created_at FROM decisions \
         WHERE tenant_id = ?1 AND (?2 IS NULL OR id < ?2) AND (?3 IS NULL OR kind = ?3) \
         AND (?4 IS NULL OR author_id = ?4) AND (?5 IS NULL OR decision = ?5) \
         AND (?6 IS NULL OR created_at >= ?6) AND (?7 IS NULL OR created_at < ?7) \
         ORDER BY id DESC LIMIT ?8",
    )
    .bind(tenant_id)
    .bind(before)
    .bind(filter.kind.map(Kind::name))
    .bind(filter.author_id.as_deref())
    .bind(filter.decision.as_deref())
    .bind(filter.from.map(Timestamp::millis))
    .bind(filter.to.map(Timestamp::millis))
    .bind(limit);
    let rows = database.query(query).await?;
    rows.iter()
        .map(|row| {
            Ok(Summary {
                id: row.get("id")?,
                kind: row.get("kind")?,
                decision: row.get("decision")?,
                confidence: row.get("confidence")?,
                author_id: row.get("author_id")?,
                created_at: Timestamp::from_millis(row.get("created_at")?),
            })
        })
        .collect()
}

/// A decision as it is kept.
pub struct Kept {
    pub id: String,
    pub decision: String,
    /// JSON; of what was decided before there were receipts the reply.
    pub receipt: String,
    /// `None`: decided before there were receipts.
    pub policy: Option<(String, i64)>,
    pub signature: Option<String>,
    pub narrative: Option<String>,
}

impl Kept {
    pub fn receipt(&self) -> Result<serde_json::Value, Error> {
        serde_json::from_str(&self.receipt)
            .map_err(|error| Error::new(ErrorKind::Misuse, format!("{}: {error}", self.id)))
    }
}

const KEPT: &str = "id, decision, reply, policy_id, policy_version, signature, narrative";

fn kept(row: &Row) -> Result<Kept, Error> {
    let (id, version): (Option<String>, Option<i64>) =
        (row.get("policy_id")?, row.get("policy_version")?);
    Ok(Kept {
        id: row.get("id")?,
        decision: row.get("decision")?,
        receipt: row.get("reply")?,
        policy: id.zip(version),
        signature: row.get("signature")?,
        narrative: row.get("narrative")?,
    })
}

pub async fn find(database: &Database, tenant_id: &str, id: &str) -> Result<Option<Kept>, Error> {
    let sql = format!("SELECT {KEPT} FROM decisions WHERE tenant_id = ?1 AND id = ?2");
    let rows = database.query(Statement::new(sql).bind(tenant_id).bind(id)).await?;
    rows.first().map(kept).transpose()
}

/// Receipts of a tenant since this instant, newest first.
pub async fn receipts_since(
    database: &Database,
    tenant_id: &str,
    policy_id: &str,
    from: Timestamp,
    limit: u32,
) -> Result<Vec<Kept>, Error> {
    let sql = format!(
        "SELECT {KEPT} FROM decisions WHERE tenant_id = ?1 AND policy_id = ?2 \
         AND created_at >= ?3 ORDER BY id DESC LIMIT ?4"
    );
    let query = Statement::new(sql).bind(tenant_id).bind(policy_id).bind(from.millis()).bind(limit);
    database.query(query).await?.iter().map(kept).collect()
}

pub struct Outcome {
    pub id: String,
    pub outcome: Fate,
    /// JSON, by id of the fact.
    pub observed: String,
    pub note: Option<String>,
    /// `None`: nobody can say.
    pub was_right: Option<bool>,
    pub author_id: String,
    pub created_at: Timestamp,
}

pub fn insert_outcome(tenant_id: &str, decision_id: &str, outcome: &Outcome) -> Statement {
    Statement::new(
        "INSERT INTO decision_outcomes (id, tenant_id, decision_id, outcome, observed, note, \
         was_right, author_id, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )
    .bind(outcome.id.as_str())
    .bind(tenant_id)
    .bind(decision_id)
    .bind(outcome.outcome.name())
    .bind(outcome.observed.as_str())
    .bind(outcome.note.as_deref())
    .bind(outcome.was_right)
    .bind(outcome.author_id.as_str())
    .bind(outcome.created_at.millis())
}

/// The last outcomes of a decision, the oldest of them first.
pub async fn outcomes(
    database: &Database,
    tenant_id: &str,
    decision_id: &str,
    limit: u32,
) -> Result<Vec<Outcome>, Error> {
    let query = Statement::new(
        "SELECT id, outcome, observed, note, was_right, author_id, created_at \
         FROM decision_outcomes WHERE tenant_id = ?1 AND decision_id = ?2 \
         ORDER BY id DESC LIMIT ?3",
    );
    let rows = database.query(query.bind(tenant_id).bind(decision_id).bind(limit)).await?;
    let outcome = |row: &Row| {
        let (fate, was_right): (String, Option<i64>) = (row.get("outcome")?, row.get("was_right")?);
        Ok(Outcome {
            id: row.get("id")?,
            // The table holds no other.
            outcome: Fate::parse(&fate).unwrap_or(Fate::Rejected),
            observed: row.get("observed")?,
            note: row.get("note")?,
            was_right: was_right.map(|right| right == 1),
            author_id: row.get("author_id")?,
            created_at: Timestamp::from_millis(row.get("created_at")?),
        })
    };
    rows.iter().rev().map(outcome).collect()
}

/// The newest decisions whose last outcome says whether they were right.
pub async fn judged(
    database: &Database,
    tenant_id: &str,
    limit: u32,
) -> Result<Vec<Judged>, Error> {
    let query = Statement::new(
        "SELECT d.kind, d.confidence, o.was_right FROM decision_outcomes o \
         JOIN decisions d ON d.id = o.decision_id \
         WHERE o.tenant_id = ?1 AND o.was_right IS NOT NULL AND o.id = ( \
             SELECT MAX(last.id) FROM decision_outcomes last \
             WHERE last.tenant_id = o.tenant_id AND last.decision_id = o.decision_id) \
         ORDER BY o.id DESC LIMIT ?2",
    );
    let rows = database.query(query.bind(tenant_id).bind(limit)).await?;
    let judged = |row: &Row| {
        let kind: String = row.get("kind")?;
        let right: i64 = row.get("was_right")?;
        Ok(Judged {
            // The table holds no other.
            kind: Kind::parse(&kind).unwrap_or(Kind::Appraisal),
            confidence: row.get("confidence")?,
            right: right == 1,
        })
    };
    rows.iter().map(judged).collect()
}

/// Remembers a key that signs receipts; nothing where it is known.
pub fn remember_key(tenant_id: &str, kid: &str, jwk: &str, now: Timestamp) -> Statement {
    Statement::new(
        "INSERT OR IGNORE INTO receipt_keys (tenant_id, kid, jwk, first_used_at) \
         VALUES (?1, ?2, ?3, ?4)",
    )
    .bind(tenant_id)
    .bind(kid)
    .bind(jwk)
    .bind(now.millis())
}

/// Every public key that ever signed a receipt of this deployment, JSON each.
/// (Keys belong to the deployment and not to a tenant.)
pub async fn keys(database: &Database) -> Result<Vec<String>, Error> {
    let query = "SELECT jwk, MIN(first_used_at) AS first FROM receipt_keys GROUP BY kid ORDER BY first DESC";
    database.query(Statement::new(query)).await?.iter().map(|row| row.get("jwk")).collect()
}
