//! Access tokens: JWTs signed with Ed25519 (RFC 8725, RFC 9068), and the
//! chain of refresh tokens.
//!
//! Two slots hold keys. The active one signs; the other verifies too, so that
//! a new key can be published before it signs and an old one is good until the
//! last token it signed has expired. A secret cannot be read back from the
//! platform: a rotation fills the slot that does not sign and then switches,
//! and no key ever has to move. Nothing else is trusted: a token names its key
//! by `kid` and brings none along.

use super::caller::{Caller, InvalidToken, Principal};
use super::permission::Role;
use crate::config::{Config, SecretText};
use crate::domain::id::IdKind;
use crate::domain::time::{SECOND_MS, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{SecretKey, Signer, SigningKey};
use hmac::{Hmac, Mac};
use jwt_compact::alg::Ed25519;
use jwt_compact::{AlgorithmExt, Claims, Header, UntrustedToken, ValidationError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Life of an access token, in seconds.
pub const ACCESS_TOKEN_LIFETIME_S: i64 = 15 * 60;

/// How far the clock of another location may be ahead of ours. It excuses an
/// early `nbf` or `iat` and never a late `exp`.
const SKEW_MS: i64 = 30 * SECOND_MS;

/// Longer than any token of ours by a factor of ten.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

const ISSUER: &str = "devskyy-orchestration";
const AUDIENCE: &str = "devskyy-orchestration-api";
const TYPE: &str = "at+jwt";

/// The variables of the slots, and the one that says which of them signs.
const SIGNING_KEY: &str = "SIGNING_KEY";
const SIGNING_KEY_2: &str = "SIGNING_KEY_2";
const SIGNING_KEY_ACTIVE: &str = "SIGNING_KEY_ACTIVE";

/// A key made for a developer's machine. Readiness reports it.
const DEVELOPMENT_PREFIX: &str = "dev:";
const PREFIX: &str = "ed25519:";

const REFRESH_PREFIX: &str = "rt_";
const REFRESH_KEY_LABEL: &[u8] = b"devskyy-orchestration/refresh-successor/v1";

/// What is wrong with the configured keys. Names variables, never a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysDefect {
    /// `SIGNING_KEY_ACTIVE` names no slot.
    UnknownSlot,
    /// The active slot is empty.
    Missing {
        which: &'static str,
    },
    Malformed {
        which: &'static str,
    },
}

impl std::fmt::Display for KeysDefect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownSlot => write!(
                f,
                "the variable {SIGNING_KEY_ACTIVE} must be 1 (the secret {SIGNING_KEY} signs) or \
                 2 ({SIGNING_KEY_2} does)"
            ),
            Self::Missing { which } => write!(
                f,
                "the secret {which} is not set, though {SIGNING_KEY_ACTIVE} has it sign; set it to \
                 {PREFIX} followed by 32 random bytes in base64url"
            ),
            Self::Malformed { which } => write!(
                f,
                "the secret {which} cannot be read; it must be {PREFIX} followed by \
                 32 random bytes in base64url"
            ),
        }
    }
}

/// Whom a token is for. The tenant and role come from the user's row.
pub struct Grant<'a> {
    pub tenant_id: &'a str,
    pub user_id: &'a str,
    pub role: Role,
}

/// The live keys, parsed once.
pub struct Keys {
    active: Key,
    other: Option<Key>,
    active_slot: u8,
    development: Option<&'static str>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.live().map(|key| &key.kid)).finish()
    }
}

/// The secret half wipes itself when dropped.
struct Key {
    pair: SigningKey,
    kid: String,
}

impl Key {
    fn new(seed: &SecretKey) -> Self {
        let pair = SigningKey::from_bytes(seed);
        // RFC 7638: the required members in alphabetical order, no blanks.
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, public(&pair));
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        Self { pair, kid }
    }
}

fn public(pair: &SigningKey) -> String {
    URL_SAFE_NO_PAD.encode(pair.verifying_key().as_bytes())
}

fn jwk(key: &Key) -> Jwk {
    Jwk {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        x: public(&key.pair),
        kid: key.kid.clone(),
        use_: "sig".to_owned(),
        alg: "EdDSA".to_owned(),
    }
}

/// The claims beyond `exp`, `nbf` and `iat`.
#[derive(Serialize, Deserialize)]
struct Own {
    iss: String,
    sub: String,
    aud: String,
    jti: String,
    tid: String,
    role: String,
}

impl Keys {
    pub fn from_config(config: &Config) -> Result<Self, KeysDefect> {
        let one = (SIGNING_KEY, &config.signing_key);
        let two = (SIGNING_KEY_2, &config.signing_key_2);
        let (active_slot, active, other) = match config.signing_key_active.trim() {
            "1" => (1, one, two),
            "2" => (2, two, one),
            _ => return Err(KeysDefect::UnknownSlot),
        };
        let (which, text) = active;
        let text = text.as_ref().ok_or(KeysDefect::Missing { which })?;
        let (active, is_development) = parse(text, which)?;
        let mut development = is_development.then_some(which);
        let (which, text) = other;
        let mut other = None;
        if let Some(text) = text {
            let (key, is_development) = parse(text, which)?;
            development = development.or(is_development.then_some(which));
            // The same key in both slots is one key.
            other = Some(key).filter(|key| key.kid != active.kid);
        }
        Ok(Self { active, other, active_slot, development })
    }

    /// The variable of a live key that was made for development: whoever
    /// knows the file it came from can sign tokens.
    pub fn development_key(&self) -> Option<&'static str> {
        self.development
    }

    /// Which slot signs, 1 or 2.
    pub fn active_slot(&self) -> u8 {
        self.active_slot
    }

    /// A token of this instant. Its `jti` is a UUIDv7 of the same instant:
    /// `iat` counts whole seconds, and a withdrawal must tell a token issued
    /// right before it from one issued right after.
    pub fn sign(&self, grant: &Grant<'_>, now: Timestamp, random: &[u8; 10]) -> String {
        let header = Header::empty().with_token_type(TYPE).with_key_id(self.active.kid.as_str());
        let mut claims = Claims::new(Own {
            iss: ISSUER.to_owned(),
            sub: grant.user_id.to_owned(),
            aud: AUDIENCE.to_owned(),
            jti: IdKind::Token.make(now, random),
            tid: grant.tenant_id.to_owned(),
            role: grant.role.name().to_owned(),
        });
        let issued_at = now.to_chrono();
        claims.issued_at = Some(issued_at);
        claims.not_before = Some(issued_at);
        claims.expiration = Some(now.plus_ms(ACCESS_TOKEN_LIFETIME_S * SECOND_MS).to_chrono());
        // Strings and numbers only, so writing JSON cannot fail; were it to,
        // the empty token is valid nowhere.
        Ed25519.token(&header, &claims, &self.active.pair).unwrap_or_default()
    }

    /// Checks everything; a [`Caller`] exists only for what passes.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Caller, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken::TooLong);
        }
        let token: UntrustedToken<'_, serde_json::Map<String, serde_json::Value>> =
            token.try_into().map_err(|_| InvalidToken::Malformed)?;
        let header = token.header();
        if !header.token_type.as_deref().is_some_and(is_access_token) {
            return Err(InvalidToken::WrongType);
        }
        // `crit` names extensions that must be understood; we know none.
        // `jku`, `x5u`, `jwk` and `x5c` would bring a key along: never read.
        if header.other_fields.contains_key("crit") {
            return Err(InvalidToken::Malformed);
        }
        let kid = header.key_id.as_deref().ok_or(InvalidToken::UnknownKey)?;
        let key = self.live().find(|key| key.kid == kid).ok_or(InvalidToken::UnknownKey)?;
        let verified =
            Ed25519.validator::<Own>(key.pair.as_ref()).validate(&token).map_err(|error| {
                match error {
                    ValidationError::MalformedClaims(_) => InvalidToken::BadClaims,
                    _ => InvalidToken::BadSignature,
                }
            })?;
        caller(verified.claims(), now)
    }

    /// The public keys, for whoever wants to check our tokens.
    pub fn jwks(&self) -> Jwks {
        Jwks { keys: self.live().map(jwk).collect() }
    }

    /// Signs bytes that are no token: what a token signs never begins with a
    /// brace, and canonical JSON always does. The key's name, its public half,
    /// and the signature.
    pub fn sign_json(&self, bytes: &[u8]) -> (Jwk, [u8; 64]) {
        (jwk(&self.active), self.active.pair.sign(bytes).to_bytes())
    }

    /// The refresh token that follows this one. It is a function of the token
    /// presented and of our key, so a client that lost the reply can be given
    /// the same successor again although only hashes are stored.
    pub fn refresh_successor(&self, token: &str) -> String {
        successor(&self.active, token)
    }

    /// What [`Keys::refresh_successor`] answered just now: by the active key
    /// first, then by the other one, in case they were switched in between.
    pub fn refresh_successors(&self, token: &str) -> impl Iterator<Item = String> {
        self.live().map(move |key| successor(key, token))
    }

    /// Secrets that follow from ours, for one purpose (the label) and one
    /// message: that of the signing key first, then that of the other one, in
    /// case it signed when the secret was made.
    pub fn derived(&self, label: &[u8], message: &[u8]) -> impl Iterator<Item = [u8; 32]> {
        self.live().map(move |key| derived(key, label, message))
    }

    fn live(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.active).chain(self.other.as_ref())
    }
}

/// The first refresh token of a login, from 256 random bits.
pub fn refresh_token(random: &[u8; 32]) -> String {
    format!("{REFRESH_PREFIX}{}", URL_SAFE_NO_PAD.encode(random))
}

/// What is stored of a refresh token. It has 256 bits of its own, so a fast
/// hash without salt cannot be searched.
pub fn refresh_token_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token))
}

/// JSON Web Key Set (RFC 7517).
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Jwks {
    /// The key that signs first, then that of the other slot if there is one.
    pub keys: Vec<Jwk>,
}

/// A public Ed25519 key (RFC 8037).
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Jwk {
    pub kty: String,
    pub crv: String,
    /// The public key, base64url.
    pub x: String,
    /// RFC 7638 thumbprint of the key.
    pub kid: String,
    #[serde(rename = "use")]
    pub use_: String,
    pub alg: String,
}

/// Reads `ed25519:<seed>` or `dev:<seed>`; true for the latter.
fn parse(text: &SecretText, which: &'static str) -> Result<(Key, bool), KeysDefect> {
    let malformed = KeysDefect::Malformed { which };
    let text = text.expose().trim();
    let (encoded, development) = match text.strip_prefix(DEVELOPMENT_PREFIX) {
        Some(encoded) => (encoded, true),
        None => (text.strip_prefix(PREFIX).ok_or(malformed)?, false),
    };
    let decoded = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).map_err(|_| malformed)?;
    let decoded = Zeroizing::new(decoded);
    let seed: Zeroizing<SecretKey> =
        Zeroizing::new(decoded.as_slice().try_into().map_err(|_| malformed)?);
    Ok((Key::new(&seed), development))
}

fn is_access_token(token_type: &str) -> bool {
    let bare = match token_type.split_once('/') {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application") => rest,
        Some(_) => return false,
        None => token_type,
    };
    bare.eq_ignore_ascii_case(TYPE)
}

fn caller(claims: &Claims<Own>, now: Timestamp) -> Result<Caller, InvalidToken> {
    let own = &claims.custom;
    if own.iss != ISSUER || own.aud != AUDIENCE {
        return Err(InvalidToken::WrongIssuerOrAudience);
    }
    let (Some(expires), Some(not_before), Some(issued)) =
        (claims.expiration, claims.not_before, claims.issued_at)
    else {
        return Err(InvalidToken::BadClaims);
    };
    if expires.timestamp().saturating_sub(issued.timestamp()) > ACCESS_TOKEN_LIFETIME_S {
        return Err(InvalidToken::BadClaims);
    }
    let expires_at = Timestamp::from_millis(expires.timestamp_millis());
    if expires_at <= now {
        return Err(InvalidToken::Expired);
    }
    let latest_ms = now.millis().saturating_add(SKEW_MS);
    if not_before.timestamp_millis() > latest_ms || issued.timestamp_millis() > latest_ms {
        return Err(InvalidToken::NotYetValid);
    }
    let issued_at = made_at(&own.jti).ok_or(InvalidToken::BadClaims)?;
    let role = Role::parse(&own.role).ok_or(InvalidToken::BadClaims)?;
    if issued_at.seconds() != issued.timestamp()
        || !own.sub.starts_with(IdKind::User.prefix())
        || !own.tid.starts_with(IdKind::Tenant.prefix())
    {
        return Err(InvalidToken::BadClaims);
    }
    Ok(Caller {
        tenant_id: own.tid.clone(),
        id: own.sub.clone(),
        principal: Principal::User { role },
        issued_at,
        expires_at,
    })
}

/// The instant in a token's id.
fn made_at(jti: &str) -> Option<Timestamp> {
    let id = uuid::Uuid::parse_str(jti.strip_prefix(IdKind::Token.prefix())?).ok()?;
    // RFC 9562: the first 48 bits of a version 7 are milliseconds.
    let millis = i64::try_from(id.as_u128() >> 80).ok()?;
    (id.get_version_num() == 7).then(|| Timestamp::from_millis(millis))
}

fn successor(key: &Key, token: &str) -> String {
    refresh_token(&derived(key, REFRESH_KEY_LABEL, token.as_bytes()))
}

/// By way of a key of its own for each purpose, which signs nothing: the
/// signing key is used for one thing only.
fn derived(key: &Key, label: &[u8], message: &[u8]) -> [u8; 32] {
    let seed = Zeroizing::new(key.pair.to_bytes());
    let purpose = Zeroizing::new(hmac_sha256(&seed, label));
    hmac_sha256(&purpose, message)
}

fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // HMAC pads its key with zeros to the block of its hash; given a whole
    // block, making one cannot fail.
    let mut block = Zeroizing::new([0_u8; 64]);
    for (target, source) in block.iter_mut().zip(key) {
        *target = *source;
    }
    let block: &[u8; 64] = &block;
    <Hmac<Sha256> as Mac>::new(block.into()).chain_update(message).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Vars;
    use jwt_compact::alg::{Hs256, Hs256Key};
    use serde_json::{Value, json};

    /// The key of RFC 8037, appendix A.
    const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    const OTHER_SEED: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn config(vars: &[(&str, &str)]) -> Config {
        let all = Vars::default();
        for (name, value) in vars {
            all.set(name, value);
        }
        Config::from_vars(&all)
    }

    /// Keys of these seeds, of which this slot signs.
    fn slots(one: &str, two: &str, active: &str) -> Keys {
        let (one, two) = (format!("ed25519:{one}"), format!("ed25519:{two}"));
        let vars = [(SIGNING_KEY, &*one), (SIGNING_KEY_2, &two), (SIGNING_KEY_ACTIVE, active)];
        Keys::from_config(&config(&vars)).unwrap()
    }

    fn keys_of(seed: &str) -> Keys {
        Keys::from_config(&config(&[(SIGNING_KEY, &format!("ed25519:{seed}"))])).unwrap()
    }

    fn keys() -> Keys {
        keys_of(SEED)
    }

    fn kids(keys: &Keys) -> Vec<String> {
        keys.jwks().keys.into_iter().map(|key| key.kid).collect()
    }

    fn now() -> Timestamp {
        Timestamp::parse("2026-01-31T12:00:00.250Z").unwrap()
    }

    fn later(seconds: i64) -> Timestamp {
        now().plus_ms(seconds * SECOND_MS)
    }

    const GRANT: Grant<'static> =
        Grant { tenant_id: "ten_default", user_id: "usr_1", role: Role::Admin };

    fn token() -> String {
        keys().sign(&GRANT, now(), &[7; 10])
    }

    fn good_header() -> Value {
        json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": THUMBPRINT })
    }

    fn good_claims() -> Value {
        let iat = now().seconds();
        json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "usr_1", "tid": "ten_default",
            "role": "admin", "jti": IdKind::Token.make(now(), &[7; 10]),
            "iat": iat, "nbf": iat, "exp": iat + ACCESS_TOKEN_LIFETIME_S,
        })
    }

    fn changed(mut document: Value, name: &str, value: Value) -> Value {
        document[name] = value;
        document
    }

    fn without(mut document: Value, name: &str) -> Value {
        document.as_object_mut().unwrap().remove(name).unwrap();
        document
    }

    fn unsigned(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(header), part(claims))
    }

    /// Signed with the right key, whatever it says.
    fn signed(header: &Value, claims: &Value) -> String {
        use ed25519_dalek::Signer;
        let message = unsigned(header, claims);
        let signature = keys().active.pair.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    fn refused(token: &str) -> InvalidToken {
        keys().verify(token, now()).unwrap_err()
    }

    #[track_caller]
    fn claims_refused(claims: &Value) -> InvalidToken {
        refused(&signed(&good_header(), claims))
    }

    #[test]
    fn a_token_says_who_is_calling() {
        let caller = keys().verify(&token(), now()).unwrap();
        assert_eq!(caller.tenant_id(), "ten_default");
        assert_eq!(caller.id(), "usr_1");
        assert_eq!(caller.role(), Some(Role::Admin));
        assert_eq!(caller.issued_at(), now(), "to the millisecond");
        assert_eq!(caller.expires_at.seconds(), now().seconds() + ACCESS_TOKEN_LIFETIME_S);
        // The hand-made token of the tests below is the same but for its flaw.
        assert_eq!(keys().verify(&signed(&good_header(), &good_claims()), now()), Ok(caller));
    }

    #[test]
    fn the_token_has_the_header_and_claims_of_the_contract() {
        let token = token();
        let mut parts = token.split('.');
        let mut part = || -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap()).unwrap()
        };
        assert_eq!(part(), good_header());
        assert_eq!(part(), good_claims());
    }

    #[test]
    fn the_key_id_is_the_thumbprint_of_rfc_8037() {
        let jwks = serde_json::to_value(keys().jwks()).unwrap();
        assert_eq!(
            jwks,
            json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": PUBLIC, "kid": THUMBPRINT,
                               "use": "sig", "alg": "EdDSA" }] })
        );
    }

    #[test]
    fn expires_without_grace() {
        let (keys, token) = (keys(), token());
        let last = now().seconds() + ACCESS_TOKEN_LIFETIME_S;
        let last = Timestamp::from_millis(last * SECOND_MS);
        assert!(keys.verify(&token, last.plus_ms(-1)).is_ok());
        assert_eq!(keys.verify(&token, last), Err(InvalidToken::Expired));
        assert_eq!(keys.verify(&token, later(86_400)), Err(InvalidToken::Expired));
    }

    #[test]
    fn a_clock_that_is_ahead_is_excused_for_thirty_seconds() {
        let (keys, token) = (keys(), token());
        assert!(keys.verify(&token, later(-30)).is_ok());
        assert_eq!(keys.verify(&token, later(-31)), Err(InvalidToken::NotYetValid));
        let soon = now().seconds() + 31;
        let matures_late = changed(good_claims(), "nbf", json!(soon));
        assert_eq!(claims_refused(&matures_late), InvalidToken::NotYetValid);
        let issued_later = changed(good_claims(), "iat", json!(soon));
        assert_eq!(claims_refused(&issued_later), InvalidToken::NotYetValid);
    }

    #[test]
    fn only_a_live_key_counts() {
        let foreign = keys_of(OTHER_SEED).sign(&GRANT, now(), &[7; 10]);
        assert_eq!(refused(&foreign), InvalidToken::UnknownKey);
        // The foreign signature under the name of our key.
        let (_, signature) = foreign.rsplit_once('.').unwrap();
        let forged = format!("{}.{signature}", unsigned(&good_header(), &good_claims()));
        assert_eq!(refused(&forged), InvalidToken::BadSignature);
        let nameless = without(good_header(), "kid");
        assert_eq!(refused(&signed(&nameless, &good_claims())), InvalidToken::UnknownKey);
    }

    #[test]
    fn only_eddsa_counts() {
        for algorithm in ["none", "None", "", "ES256", "Ed25519", "eddsa"] {
            let header = changed(good_header(), "alg", json!(algorithm));
            assert_eq!(
                refused(&signed(&header, &good_claims())),
                InvalidToken::BadSignature,
                "{algorithm}"
            );
            let unsigned = format!("{}.", unsigned(&header, &good_claims()));
            assert!(keys().verify(&unsigned, now()).is_err(), "{algorithm}");
        }
        // The public key, which everybody knows, as the secret of an HMAC.
        let key = Hs256Key::new(URL_SAFE_NO_PAD.decode(PUBLIC).unwrap());
        let header = Header::empty().with_token_type(TYPE).with_key_id(THUMBPRINT);
        let mac = Hs256.token(&header, &Claims::new(good_claims()), &key).unwrap();
        assert_eq!(refused(&mac), InvalidToken::BadSignature);
    }

    #[test]
    fn only_access_tokens_count() {
        for good in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
            let header = changed(good_header(), "typ", json!(good));
            assert!(keys().verify(&signed(&header, &good_claims()), now()).is_ok(), "{good}");
        }
        for bad in ["JWT", "", "at+jwt ", "text/at+jwt", "application/", "application/x/at+jwt"] {
            let header = changed(good_header(), "typ", json!(bad));
            assert_eq!(refused(&signed(&header, &good_claims())), InvalidToken::WrongType, "{bad}");
        }
        let header = without(good_header(), "typ");
        assert_eq!(refused(&signed(&header, &good_claims())), InvalidToken::WrongType);
    }

    #[test]
    fn an_extension_that_must_be_understood_is_refused_and_a_key_brought_along_ignored() {
        for crit in [json!(["exp"]), json!([]), Value::Null] {
            let header = changed(good_header(), "crit", crit);
            assert_eq!(refused(&signed(&header, &good_claims())), InvalidToken::Malformed);
        }
        let mut header = good_header();
        header["jku"] = json!("https://evil.example/keys");
        header["x5u"] = json!("https://evil.example/cert");
        header["jwk"] = json!({ "kty": "OKP", "crv": "Ed25519", "x": PUBLIC });
        assert!(keys().verify(&signed(&header, &good_claims()), now()).is_ok());
        header["kid"] = json!("another");
        assert_eq!(refused(&signed(&header, &good_claims())), InvalidToken::UnknownKey);
    }

    #[test]
    fn every_claim_is_needed() {
        for name in ["iss", "aud", "sub", "tid", "role", "jti", "iat", "nbf", "exp"] {
            let claims = without(good_claims(), name);
            assert_eq!(claims_refused(&claims), InvalidToken::BadClaims, "{name}");
        }
    }

    #[test]
    fn every_claim_is_checked() {
        for (name, value, reason) in [
            ("iss", json!("devskyy"), InvalidToken::WrongIssuerOrAudience),
            ("aud", json!("somebody-else"), InvalidToken::WrongIssuerOrAudience),
            ("aud", json!([AUDIENCE]), InvalidToken::BadClaims),
            ("sub", json!("ten_1"), InvalidToken::BadClaims),
            ("tid", json!("usr_1"), InvalidToken::BadClaims),
            ("role", json!("root"), InvalidToken::BadClaims),
            ("role", json!(["admin"]), InvalidToken::BadClaims),
            ("jti", json!("tok_1"), InvalidToken::BadClaims),
            ("jti", json!(IdKind::Token.make(later(5), &[7; 10])), InvalidToken::BadClaims),
            ("exp", json!(now().seconds() + ACCESS_TOKEN_LIFETIME_S + 1), InvalidToken::BadClaims),
            ("exp", json!(i64::MAX), InvalidToken::BadClaims),
            ("exp", json!("tomorrow"), InvalidToken::BadClaims),
            ("exp", Value::Null, InvalidToken::BadClaims),
            ("exp", json!(-1), InvalidToken::Expired),
        ] {
            let claims = changed(good_claims(), name, value.clone());
            assert_eq!(claims_refused(&claims), reason, "{name} {value}");
        }
    }

    #[test]
    fn what_was_tampered_with_is_refused() {
        let token = token();
        let [header, _, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
        let richer = changed(good_claims(), "tid", json!("ten_other"));
        let payload = URL_SAFE_NO_PAD.encode(richer.to_string());
        assert_eq!(refused(&format!("{header}.{payload}.{signature}")), InvalidToken::BadSignature);
        for index in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            let tampered = String::from_utf8(bytes).unwrap();
            assert!(keys().verify(&tampered, now()).is_err(), "byte {index}");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for rubbish in ["", ".", "..", "...", "a.b.c", "rt_abc", "\u{0}", "ä.ö.ü", &token()[1..]]
        {
            assert!(keys().verify(rubbish, now()).is_err(), "{rubbish}");
        }
        let (start, _) =
            token().rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(keys().verify(&format!("{start}."), now()).is_err());
        assert_eq!(refused(&"a".repeat(8_193)), InvalidToken::TooLong);
    }

    #[test]
    fn the_active_slot_signs_and_each_slot_verifies() {
        let old_token = token();
        // First the new key is there, then it signs.
        let published = slots(SEED, OTHER_SEED, "1");
        assert_eq!(published.active_slot(), 1);
        assert_eq!(published.sign(&GRANT, now(), &[7; 10]), old_token);
        let rotated = slots(SEED, OTHER_SEED, "2");
        assert_eq!(rotated.active_slot(), 2);
        let new_token = rotated.sign(&GRANT, now(), &[7; 10]);
        assert_eq!(refused(&new_token), InvalidToken::UnknownKey);
        for keys in [&published, &rotated] {
            assert!(keys.verify(&old_token, now()).is_ok());
            assert!(keys.verify(&new_token, now()).is_ok());
        }
        let other = kids(&keys_of(OTHER_SEED)).remove(0);
        assert_eq!(kids(&published), [THUMBPRINT, &other], "the active one first");
        assert_eq!(kids(&rotated), [&other, THUMBPRINT]);
        // The next rotation takes the first slot again.
        assert_eq!(kids(&slots(OTHER_SEED, SEED, "1")), [&other, THUMBPRINT]);
        assert_eq!(kids(&slots(SEED, SEED, "2")), [THUMBPRINT], "one key in both");
    }

    #[test]
    fn the_second_slot_may_be_the_only_one() {
        let good = format!("ed25519:{SEED}");
        let vars = [(SIGNING_KEY_2, &*good), (SIGNING_KEY_ACTIVE, " 2 ")];
        assert_eq!(kids(&Keys::from_config(&config(&vars)).unwrap()), [THUMBPRINT]);
    }

    #[test]
    fn a_defect_names_the_variable_and_not_its_value() {
        let defect = |vars: &[(&str, &str)]| Keys::from_config(&config(vars)).unwrap_err();
        let good = format!("ed25519:{SEED}");
        let missing = |which| KeysDefect::Missing { which };
        assert_eq!(defect(&[]), missing(SIGNING_KEY));
        assert_eq!(defect(&[(SIGNING_KEY, " ")]), missing(SIGNING_KEY));
        // The other slot never steps in: that would be signing with a key that was not chosen.
        assert_eq!(defect(&[(SIGNING_KEY_2, &good)]), missing(SIGNING_KEY));
        let active = (SIGNING_KEY_ACTIVE, "2");
        assert_eq!(defect(&[(SIGNING_KEY, &good), active]), missing(SIGNING_KEY_2));
        for bad in ["0", "3", "12", "one", "SIGNING_KEY_2", &good] {
            let defect =
                defect(&[(SIGNING_KEY, &good), (SIGNING_KEY_2, &good), (SIGNING_KEY_ACTIVE, bad)]);
            assert_eq!(defect, KeysDefect::UnknownSlot, "{bad}");
            assert!(defect.to_string().contains(SIGNING_KEY_ACTIVE));
            assert!(!defect.to_string().contains(SEED));
        }
        for bad in ["secret", SEED, "ed25519:", "ed25519:AAAA", "ed25519:!!!", "hs256:AAAA"] {
            for (slot, other) in [(SIGNING_KEY, SIGNING_KEY_2), (SIGNING_KEY_2, SIGNING_KEY)] {
                for active in ["1", "2"] {
                    let defect =
                        defect(&[(slot, bad), (other, &good), (SIGNING_KEY_ACTIVE, active)]);
                    assert_eq!(defect, KeysDefect::Malformed { which: slot }, "{bad}, {active}");
                    assert!(!defect.to_string().contains(SEED));
                }
            }
        }
    }

    #[test]
    fn a_development_key_is_known_as_one() {
        let (good, dev) = (format!("ed25519:{SEED}"), format!("dev:{OTHER_SEED}"));
        let development = |one: &str, two: &str, active: &str| {
            let vars = [(SIGNING_KEY, one), (SIGNING_KEY_2, two), (SIGNING_KEY_ACTIVE, active)];
            Keys::from_config(&config(&vars)).unwrap().development_key()
        };
        assert_eq!(development(&good, "", "1"), None);
        assert_eq!(development(&good, &good, "2"), None);
        assert_eq!(development(&dev, "", "1"), Some(SIGNING_KEY));
        for active in ["1", "2"] {
            assert_eq!(development(&dev, &good, active), Some(SIGNING_KEY));
            assert_eq!(development(&good, &dev, active), Some(SIGNING_KEY_2));
        }
    }

    #[test]
    fn keys_do_not_show_themselves() {
        let shown = format!("{:?}", keys());
        assert_eq!(shown, format!("[\"{THUMBPRINT}\"]"));
    }

    #[test]
    fn the_successor_of_a_refresh_token_is_a_function_of_it_and_of_the_key() {
        let first = refresh_token(&[1; 32]);
        assert_eq!(first.len(), 3 + 43);
        let second = keys().refresh_successor(&first);
        assert_eq!(second, keys().refresh_successor(&first));
        assert_eq!(second.len(), first.len());
        assert_ne!(second, first);
        assert_ne!(second, keys().refresh_successor(&second));
        assert_ne!(second, keys_of(OTHER_SEED).refresh_successor(&first));
        // Pinned: another value would log everybody out whose reply got lost.
        assert_eq!(second, "rt_0NGZElSNqQ1YU4a9DHkO2n8Vj0jc4h7eoslKOWm0Ozg");
        assert_eq!(refresh_token_hash(&second), "WUR4ovpjXhiDNxEKjKAkFdx0HC8ORXSrTTdESGWA_D4");
        let rotated: Vec<String> =
            slots(SEED, OTHER_SEED, "2").refresh_successors(&first).collect();
        assert_eq!(rotated[1], second);
    }

    #[test]
    fn hmac_is_the_one_of_rfc_4231() {
        let mut key = [0_u8; 32];
        key[..4].copy_from_slice(b"Jefe");
        let hex: String = hmac_sha256(&key, b"what do ya want for nothing?")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
