//! Receipts: a decision with everything it followed from, signed, so that
//! anybody can check it later without us.

#[cfg(not(target_arch = "wasm32"))]
use super::choice::{MAX_CONSTRAINTS, NAME};
use super::conclusion::{Case, Conclusion, ENGINE_VERSION, Kind, Question, decide};
use super::evidence::{Evidence, Fact, sorted};
use super::policy::Policy;
use crate::domain::hex::sha256_hex;
use crate::domain::time::Timestamp;
use crate::domain::validation::FieldError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Which policy, down to its last digit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PolicyRef {
    pub id: String,
    pub version: i64,
    /// Of the document as canonical JSON, in hexadecimal.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    pub sha256: String,
}

/// What is signed: a question, what was concluded, and what it followed from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Receipt {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = "^dec_[0-9a-f-]{36}$")))]
    pub decision_id: String,
    pub kind: Kind,
    pub decided_at: Timestamp,
    /// Who asked: a user's id, or an API key's.
    pub author: String,
    pub policy: PolicyRef,
    pub engine_version: u32,
    /// The context of the request; live facts by their full names.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Map<String, Value>"))]
    pub question: Question,
    #[serde(flatten)]
    pub conclusion: Conclusion,
}

/// A signature over the receipt as canonical JSON (RFC 8785).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ReceiptSignature {
    /// `EdDSA`: Ed25519 (RFC 8032).
    pub alg: String,
    /// The key, by the name it has in the key set.
    pub kid: String,
    /// 64 bytes in base64url.
    pub value: String,
}

/// The bytes that are signed and hashed: canonical JSON (RFC 8785).
///
/// # Errors
/// A number that JSON cannot hold.
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>, String> {
    // Through the tree: one serializer of that library, and not one a type.
    let tree = serde_json::to_value(value).map_err(|error| error.to_string())?;
    serde_json_canonicalizer::to_vec(&tree).map_err(|error| error.to_string())
}

/// SHA-256 of the canonical JSON, in hexadecimal.
///
/// # Errors
/// A number that JSON cannot hold.
pub fn digest(value: &impl Serialize) -> Result<String, String> {
    Ok(sha256_hex(&canonical(value)?))
}

/// What a receipt is recomputed from, read back.
struct Stored {
    question: Question,
    facts: Vec<Fact>,
    at: Timestamp,
    engine_version: u32,
}

impl Stored {
    fn read(receipt: &Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Wire {
            kind: Kind,
            question: Value,
            evidence: Vec<Evidence>,
            decided_at: Timestamp,
            engine_version: u32,
        }
        let wire = Wire::deserialize(receipt).map_err(|error| format!("no receipt: {error}"))?;
        let question = Question::read(wire.kind, wire.question)
            .map_err(|error| format!("its question cannot be read: {error}"))?;
        Ok(Self {
            question,
            facts: wire.evidence.into_iter().map(|evidence| evidence.fact).collect(),
            at: wire.decided_at,
            engine_version: wire.engine_version,
        })
    }

    fn decide(&self, policy: &Policy) -> Result<Conclusion, String> {
        decide(&Case { question: &self.question, facts: &self.facts, policy, at: self.at })
    }
}

/// A field that a recomputation has otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Difference {
    pub field: String,
    pub stored: Value,
    pub recomputed: Value,
}

/// What a recomputation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Replay {
    /// True: every field of the conclusion came out as it is stored.
    pub identical: bool,
    pub differences: Vec<Difference>,
    /// That of the receipt; another one than today's may differ on purpose.
    pub stored_engine_version: u32,
    pub engine_version: u32,
}

/// Concludes once more from the evidence and the policy of a receipt.
///
/// # Errors
/// A receipt or a policy that cannot be read.
pub fn replay(receipt: &Value, policy: &Policy) -> Result<Replay, String> {
    let stored = Stored::read(receipt)?;
    let differences = differences(receipt, &stored.decide(policy)?)?;
    Ok(Replay {
        identical: differences.is_empty(),
        differences,
        stored_engine_version: stored.engine_version,
        engine_version: ENGINE_VERSION,
    })
}

/// Names of the fields in which a conclusion is not that of the receipt.
///
/// # Errors
/// A number that JSON cannot hold.
pub fn changed(receipt: &Value, conclusion: &Conclusion) -> Result<Vec<String>, String> {
    Ok(differences(receipt, conclusion)?.into_iter().map(|difference| difference.field).collect())
}

fn differences(receipt: &Value, conclusion: &Conclusion) -> Result<Vec<Difference>, String> {
    let mut differences = Vec::new();
    for (field, recomputed) in fields(conclusion)? {
        let known = receipt.get(&field).cloned().unwrap_or(Value::Null);
        // By the canonical form: 1.0 and 1 are one number.
        if canonical(&known)? != canonical(&recomputed)? {
            differences.push(Difference { field, stored: known, recomputed });
        }
    }
    Ok(differences)
}

fn fields(conclusion: &Conclusion) -> Result<Map<String, Value>, String> {
    match serde_json::to_value(conclusion).map_err(|error| error.to_string())? {
        Value::Object(fields) => Ok(fields),
        _ => Err("a conclusion is an object".to_owned()),
    }
}

/// What would have been otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// By criterion, in place of the weights of the question or of its goal's
    /// in the policy; those left out stay as they are.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("propertyNames" = { "pattern": NAME }, "additionalProperties" = { "type": "number", "minimum": 0, "maximum": 1_000_000 })))]
    #[serde(default)]
    pub weights: BTreeMap<String, f64>,
    /// By id, such as `cursor_technical.score` or `context.estimated_cost`;
    /// null: it is not known.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("propertyNames" = { "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$" }, "additionalProperties" = { "type": ["number", "null"], "minimum": -1e15, "maximum": 1e15 })))]
    #[serde(default)]
    pub facts: BTreeMap<String, Option<f64>>,
    /// In place of the constraints of the question.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_CONSTRAINTS)))]
    #[serde(default)]
    pub constraints: Option<Vec<super::choice::Constraint>>,
}

/// What would follow from other weights, facts or constraints, all else as in
/// the receipt.
///
/// # Errors
/// Each change that fits nothing in the receipt, or makes it invalid.
pub fn what_if(
    receipt: &Value,
    policy: &Policy,
    changes: &Changes,
) -> Result<Conclusion, Vec<FieldError>> {
    let whole = |detail: String| vec![FieldError::new("", detail)];
    let mut stored = Stored::read(receipt).map_err(whole)?;
    let mut policy = policy.clone();
    let mut errors = Vec::new();
    stored.change_facts(&changes.facts, &mut errors);
    stored.change_weights(&changes.weights, &mut policy, &mut errors);
    if let Some(constraints) = &changes.constraints {
        match &mut stored.question {
            Question::Choice(context) => context.constraints.clone_from(constraints),
            Question::Strategy(context) => context.constraints.clone_from(constraints),
            Question::Appraisal(_) => {
                errors.push(FieldError::new("/constraints", "an appraisal has no constraints"));
            }
        }
    }
    if errors.is_empty() {
        errors = stored.question.validate(&policy, stored.at);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    stored.decide(&policy).map_err(whole)
}

impl Stored {
    fn change_facts(
        &mut self,
        facts: &BTreeMap<String, Option<f64>>,
        errors: &mut Vec<FieldError>,
    ) {
        let mut refuse = |detail: &str| errors.push(FieldError::new("/facts", detail));
        if facts.is_empty() {
            return;
        }
        if let Question::Appraisal(context) = &self.question {
            // They are fields of the context.
            let Ok(Value::Object(mut fields)) = serde_json::to_value(context) else { return };
            for (id, value) in facts {
                match id.strip_prefix("context.") {
                    Some(name) => fields.insert(name.to_owned(), (*value).into()),
                    None => return refuse("facts of an appraisal are called context.<field>"),
                };
            }
            match Question::read(Kind::Appraisal, Value::Object(fields)) {
                Ok(question) => {
                    self.facts = sorted(question.facts());
                    self.question = question;
                }
                Err(_) => refuse("a fact is no field of an appraisal, or of another kind"),
            }
            return;
        }
        for (id, value) in facts {
            let Some(fact) = self.facts.iter_mut().find(|fact| fact.id == *id) else {
                return refuse("holds a fact that the receipt does not rest on");
            };
            if value.is_some_and(|value| !value.is_finite() || value.abs() > 1e15) {
                return refuse("expected -1e15 to 1e15");
            }
            // It is somebody's supposition now, neither old nor thin.
            *fact = Fact::of_caller(id.clone(), *value, fact.unit.take());
            if let (Question::Strategy(context), "context.budget", Some(value)) =
                (&mut self.question, id.as_str(), value)
            {
                context.budget = *value;
            }
        }
    }

    fn change_weights(
        &mut self,
        weights: &BTreeMap<String, f64>,
        policy: &mut Policy,
        errors: &mut Vec<FieldError>,
    ) {
        let mut refuse = |detail: &str| errors.push(FieldError::new("/weights", detail));
        for (name, weight) in weights {
            if !(0.0..=1e6).contains(weight) {
                return refuse("expected 0 to 1000000");
            }
            match &mut self.question {
                Question::Appraisal(_) => return refuse("an appraisal has no weights"),
                Question::Choice(context) => {
                    match context.criteria.iter_mut().find(|criterion| criterion.id == *name) {
                        Some(criterion) => criterion.weight = *weight,
                        None => return refuse("names no criterion"),
                    }
                }
                Question::Strategy(context) => {
                    if !policy.strategy.criteria.iter().any(|criterion| criterion.id == *name) {
                        return refuse("names no criterion");
                    }
                    let goal = policy.strategy.goals.entry(context.business_goal).or_default();
                    goal.insert(name.clone(), *weight);
                }
            }
        }
        if let (Question::Strategy(context), false) = (&self.question, weights.is_empty()) {
            let goal = policy.strategy.goals.get(&context.business_goal);
            if goal.is_some_and(|goal| goal.values().all(|weight| *weight == 0.0)) {
                refuse("one weight must be above 0");
            }
        }
    }
}

/// What somebody is given to check a receipt: GET `/decisions/{id}`.
#[derive(Deserialize)]
struct Handed {
    receipt: Value,
    signature: Option<ReceiptSignature>,
    policy_document: Value,
}

/// A key set as it is published (RFC 7517, RFC 8037).
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
struct PublicKey {
    kid: String,
    crv: String,
    x: String,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub passed: bool,
    pub detail: String,
}

/// What came of a verification.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// True: every check passed.
    pub valid: bool,
    pub checks: Vec<Check>,
}

/// Checks a receipt as GET `/decisions/{id}` gives it: its signature against a
/// key set, the policy against the receipt, and the conclusion by drawing it
/// again.
///
/// # Errors
/// Texts that are no receipt or no key set.
pub fn verify(handed: &str, keys: &str) -> Result<Verification, String> {
    let handed: Handed =
        serde_json::from_str(handed).map_err(|error| format!("no receipt: {error}"))?;
    let keys: KeySet =
        serde_json::from_str(keys).map_err(|error| format!("no key set: {error}"))?;
    let mut checks = Vec::new();
    let mut check = |name, outcome: Result<String, String>| {
        let passed = outcome.is_ok();
        checks.push(Check { name, passed, detail: outcome.unwrap_or_else(|error| error) });
    };
    check("signature", check_signature(&handed, &keys));
    check("policy", check_policy(&handed));
    check("recomputation", check_recomputation(&handed));
    Ok(Verification { valid: checks.iter().all(|check| check.passed), checks })
}

fn check_signature(handed: &Handed, keys: &KeySet) -> Result<String, String> {
    let signature = handed.signature.as_ref().ok_or("there is none")?;
    if signature.alg != "EdDSA" {
        return Err("is not of EdDSA".to_owned());
    }
    let known = keys.keys.iter().find(|key| key.kid == signature.kid && key.crv == "Ed25519");
    let key = known.ok_or_else(|| format!("the key set has no key {}", signature.kid))?;
    let decoded =
        |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "is not base64url".to_owned());
    let key: [u8; 32] = decoded(&key.x)?.try_into().map_err(|_| "the key has not 32 bytes")?;
    let key = VerifyingKey::from_bytes(&key).map_err(|_| "the key is none of Ed25519")?;
    let value: [u8; 64] = decoded(&signature.value)?.try_into().map_err(|_| "has not 64 bytes")?;
    // Strict: no second signature of the same receipt can be made of this one.
    key.verify_strict(&canonical(&handed.receipt)?, &Signature::from_bytes(&value))
        .map_err(|_| "does not fit the receipt".to_owned())?;
    Ok(format!("by key {}", signature.kid))
}

fn check_policy(handed: &Handed) -> Result<String, String> {
    let policy: PolicyRef = handed
        .receipt
        .get("policy")
        .and_then(|policy| PolicyRef::deserialize(policy).ok())
        .ok_or("the receipt names none")?;
    if digest(&handed.policy_document)? == policy.sha256 {
        Ok(format!("{} version {}", policy.id, policy.version))
    } else {
        Err(format!("the document is not {} version {}", policy.id, policy.version))
    }
}

fn check_recomputation(handed: &Handed) -> Result<String, String> {
    let policy = read_policy(&handed.policy_document)?;
    let replay = replay(&handed.receipt, &policy)?;
    if replay.identical {
        return Ok("every field came out the same".to_owned());
    }
    let fields: Vec<&str> =
        replay.differences.iter().map(|difference| difference.field.as_str()).collect();
    Err(format!(
        "differs in {} (engine {}, receipt of {})",
        fields.join(", "),
        replay.engine_version,
        replay.stored_engine_version
    ))
}

fn read_policy(document: &Value) -> Result<Policy, String> {
    Policy::deserialize(document).map_err(|error| format!("the policy cannot be read: {error}"))
}

/// [`verify`], from text to text, for those who are not written in Rust.
///
/// # Errors
/// As [`verify`].
pub fn verify_receipt(receipt: &str, jwks: &str) -> Result<String, String> {
    let verification = verify(receipt, jwks)?;
    serde_json::to_string_pretty(&verification).map_err(|error| error.to_string())
}

/// [`what_if`], from text to text; the conclusion as canonical JSON.
///
/// # Errors
/// A receipt or changes that cannot be read, or changes that do not fit.
pub fn what_if_text(receipt: &str, changes: &str) -> Result<String, String> {
    let handed: Handed =
        serde_json::from_str(receipt).map_err(|error| format!("no receipt: {error}"))?;
    let changes: Changes =
        serde_json::from_str(changes).map_err(|error| format!("no changes: {error}"))?;
    let policy = read_policy(&handed.policy_document)?;
    let conclusion = what_if(&handed.receipt, &policy, &changes).map_err(|errors| {
        let said: Vec<String> =
            errors.iter().map(|error| format!("{}: {}", error.pointer, error.detail)).collect();
        said.join("; ")
    })?;
    let bytes = canonical(&conclusion)?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}
