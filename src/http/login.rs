//! `/api/v1/auth`: log in, stay logged in, log out, change the password; and
//! the public keys.

use super::idempotency::{Earlier, Once};
use super::limiter::{self, Counted, Subject};
use super::problem::{Code, Problem};
use super::reply::DOCUMENT_HEADERS;
use super::{App, Cx, Reply};
use crate::auth::bootstrap::{self, Bootstrapped, SecretDefect};
use crate::auth::caller::Principal;
use crate::auth::password;
use crate::auth::permission::{Permission, Role};
use crate::auth::token::{ACCESS_TOKEN_LIFETIME_S, Grant, Keys, refresh_token, refresh_token_hash};
use crate::domain::hex::sha256_hex;
use crate::domain::id::IdKind;
use crate::domain::rate_limit::{LimitClass, Limits};
use crate::domain::time::{SECOND_MS, Timestamp};
use crate::domain::validation::FieldError;
use crate::log::{Event, Level};
use crate::objects::partnership;
use crate::objects::rate_limit::ClientName;
use crate::platform::{Headers, Platform};
use crate::store::activity::{self, Entry, Status};
use crate::store::new_id;
use crate::store::refresh_tokens::{self, Login, Presented, RefreshToken};
use crate::store::registry;
use crate::store::tenants::DEFAULT_TENANT_ID;
use crate::store::users::{self, Changed, LoginCandidate, User};
use ::http::StatusCode;
use serde::{Deserialize, Serialize};

const DATASET: &str = "devskyy.auth";

/// A client that lost our reply may repeat its refresh for this long.
const REPEAT_WINDOW_MS: i64 = 10 * SECOND_MS;

/// A refresh token has 46 bytes; more than this cannot be one.
const MAX_REFRESH_TOKEN_BYTES: usize = 200;

/// User name or e-mail address, and password; as JSON or as the form of
/// OAuth 2.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginIn {
    /// User name or e-mail address.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = users::MAX_NAME_BYTES)))]
    pub username: String,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = password::MAX_BYTES)))]
    pub password: String,
    /// `password`, where OAuth 2 wants it said.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("enum" = ["password", null])))]
    #[serde(default)]
    pub grant_type: Option<String>,
    /// Accepted and not used: the role decides.
    #[serde(default)]
    pub scope: Option<String>,
    /// Accepted and not used: clients of OAuth 2 send it, and there is one
    /// kind of client.
    #[serde(default)]
    pub client_id: Option<String>,
    /// As `client_id`.
    #[serde(default)]
    pub client_secret: Option<String>,
}

/// An access token and the refresh token that replaces it.
#[derive(Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct TokenOut {
    /// Send it as `Authorization: Bearer …`.
    pub access_token: String,
    /// Good for one refresh, within seven days.
    pub refresh_token: String,
    /// Always `bearer`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("const" = "bearer")))]
    pub token_type: String,
    /// Seconds until the access token expires.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1)))]
    pub expires_in: i64,
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RefreshIn {
    pub refresh_token: String,
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LogoutIn {
    /// Any refresh token of the login to end.
    pub refresh_token: String,
}

/// Who is calling.
#[derive(Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MeOut {
    /// `usr_…`, or `key_…` of an API key.
    pub id: String,
    /// Of an API key: its name.
    pub username: String,
    pub email: Option<String>,
    /// Null: an API key.
    pub role: Option<Role>,
    pub permissions: Vec<Permission>,
    pub tenant_id: String,
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangePasswordIn {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = password::MAX_BYTES)))]
    pub current_password: String,
    /// 12 to 128 characters, neither the user name nor the current password.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 12, max = 128)))]
    pub new_password: String,
}

/// POST `/auth/login`.
///
/// A wrong password, an unknown user, a disabled and a locked one are told
/// apart neither by the answer nor by the work it takes: one query, one
/// Argon2id, one write, whoever asks.
pub async fn login(cx: Cx) -> Result<Reply, Problem> {
    let input: LoginIn = cx.request.json_or_form()?;
    check_login(&input)?;
    let keys = signing_keys(&cx)?;
    let found = candidate(&cx, &input.username).await?;
    count_account(&cx, found.as_ref().map_or(&input.username, |user| &user.id)).await?;
    let Some(user) = found else {
        password::verify(&input.password, None);
        return Err(refuse_login(&cx, None).await);
    };
    let matches = password::verify(&input.password, Some(&user.password_hash));
    if !matches || user.disabled_at.is_some() || user.is_locked(cx.now) {
        return Err(refuse_login(&cx, Some(&user)).await);
    }
    let mut random = [0_u8; 32];
    cx.app.platform.random.fill(&mut random)?;
    let refresh_token = refresh_token(&random);
    let family_id = new_id(&cx.app.platform.random, IdKind::RefreshFamily, cx.now)?;
    let started = refresh_tokens::start(
        &cx.app.platform.database,
        &cx.app.platform.random,
        cx.now,
        &Login {
            tenant_id: &user.tenant_id,
            user_id: &user.id,
            password_hash: &user.password_hash,
            family_id: &family_id,
            token_hash: &refresh_token_hash(&refresh_token),
            client_hash: &client_hash(&family_id, &cx.request.headers),
        },
    )
    .await?;
    if !started {
        // Disabled, locked, or given another password, while we looked.
        return Err(refuse_login(&cx, Some(&user)).await);
    }
    tokens(&cx, keys, &user.tenant_id, &user.id, &user.role, refresh_token)
}

fn check_login(input: &LoginIn) -> Result<(), Problem> {
    let mut errors = Vec::new();
    if input.username.len() > users::MAX_NAME_BYTES {
        errors.push(FieldError::new("/username", "expected at most 254 bytes"));
    }
    if input.password.len() > password::MAX_BYTES {
        errors.push(FieldError::new("/password", "expected at most 1024 bytes"));
    }
    if input.grant_type.as_deref().is_some_and(|kind| kind != "password") {
        errors.push(FieldError::new("/grant_type", "expected password"));
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

/// The user of this name; before that, at the very first login, the first
/// admin is made.
async fn candidate(cx: &Cx, name: &str) -> Result<Option<User>, Problem> {
    let platform = &cx.app.platform;
    let database = &platform.database;
    let found = users::find_for_login(database, name, DEFAULT_TENANT_ID).await?;
    if let LoginCandidate { user: None, tenant_exists: false } = found {
        match bootstrap::ensure(platform, &cx.app.config, cx.now).await {
            Ok(Bootstrapped::AlreadyThere) => {}
            Ok(Bootstrapped::Created) => {
                let defined = match registry::all(database, DEFAULT_TENANT_ID).await {
                    Ok(seeded) => {
                        partnership::define_all(platform, DEFAULT_TENANT_ID, seeded).await
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = defined {
                    // The minute's tick sends them again.
                    let what = "definitions of the first partnerships not sent";
                    crate::log::warn(&platform.log, cx.now, DATASET, what, &error.to_string());
                }
            }
            Ok(Bootstrapped::MissingSecrets(defects)) => return Err(not_bootstrapped(&defects)),
            Err(error) => return Err(error.0.into()),
        }
        return Ok(users::find_for_login(database, name, DEFAULT_TENANT_ID).await?.user);
    }
    Ok(found.user)
}

fn not_bootstrapped(defects: &[SecretDefect]) -> Problem {
    let defects: Vec<String> = defects.iter().map(SecretDefect::to_string).collect();
    Problem::new(
        Code::NotConfigured,
        format!("the first admin cannot be made: {}", defects.join("; ")),
    )
}

/// The one answer to every login that fails. The name that was typed is not
/// kept: it may be a password in the wrong field. A name nobody has belongs
/// to no tenant; its line goes to the operator's, so that refusing it takes
/// the same write.
async fn refuse_login(cx: &Cx, user: Option<&User>) -> Problem {
    let entry = Entry {
        tenant_id: user.map_or(DEFAULT_TENANT_ID, |user| user.tenant_id.as_str()),
        actor: user.map_or(activity::SYSTEM, |user| user.id.as_str()),
        event: "login.refused",
        status: Status::Refused,
        subject: user.map_or("unknown user", |user| user.id.as_str()),
    };
    note_failure(cx, &entry, user).await;
    let why = match user {
        None => "unknown user",
        Some(user) if user.disabled_at.is_some() => "disabled user",
        Some(user) if user.is_locked(cx.now) => "locked user",
        Some(_) => "wrong password",
    };
    warn(cx, user.map(|user| user.id.as_str()), "login refused", why);
    Problem::new(
        Code::InvalidCredentials,
        "user name or password is wrong, or the user is disabled or locked",
    )
    .with_header("www-authenticate", "Bearer")
}

/// POST `/auth/refresh`: spends a refresh token, hands out the next pair.
pub async fn refresh(cx: Cx) -> Result<Reply, Problem> {
    let input: RefreshIn = cx.request.json()?;
    let keys = signing_keys(&cx)?;
    if input.refresh_token.len() > MAX_REFRESH_TOKEN_BYTES {
        return Err(invalid_refresh_token());
    }
    // Whoever loses a race for the token finds it spent in the second round.
    for _ in 0..2 {
        if let Some(reply) = refresh_once(&cx, keys, &input.refresh_token).await? {
            return Ok(reply);
        }
    }
    Err(Problem::unavailable("the refresh token changed twice while it was being spent"))
}

/// None where somebody else was faster; then it is to be looked at again.
async fn refresh_once(cx: &Cx, keys: &Keys, presented: &str) -> Result<Option<Reply>, Problem> {
    let platform = &cx.app.platform;
    let Some(found) =
        refresh_tokens::find(&platform.database, &refresh_token_hash(presented)).await?
    else {
        warn(cx, None, "refresh refused", "unknown token");
        return Err(invalid_refresh_token());
    };
    let token = &found.token;
    let user_id = Some(token.user_id.as_str());
    if token.revoked_at.is_some() {
        warn(cx, user_id, "refresh refused", "revoked token");
        return Err(invalid_refresh_token());
    }
    if found.user_disabled {
        end_login(cx, token, "user_disabled", "login.refresh_refused").await?;
        warn(cx, user_id, "refresh refused", "disabled user");
        return Err(invalid_refresh_token());
    }
    let client_hash = client_hash(&token.family_id, &cx.request.headers);
    if let Some(spent_at) = token.spent_at {
        if cx.now.since_ms(spent_at) <= REPEAT_WINDOW_MS
            && let Some(successor) = live_successor(cx, keys, presented, &client_hash).await?
        {
            return reply(cx, keys, &found, successor).map(Some);
        }
        end_login(cx, token, "refresh_reused", "login.refresh_reused").await?;
        warn(cx, user_id, "a spent refresh token was used again; its login was ended", "reuse");
        return Err(invalid_refresh_token());
    }
    if token.expires_at <= cx.now {
        warn(cx, user_id, "refresh refused", "expired token");
        return Err(invalid_refresh_token());
    }
    let successor = keys.refresh_successor(presented);
    let rotated = refresh_tokens::rotate(
        &platform.database,
        &platform.random,
        cx.now,
        token,
        &refresh_token_hash(&successor),
        &client_hash,
    )
    .await?;
    if rotated { reply(cx, keys, &found, successor).map(Some) } else { Ok(None) }
}

fn reply(
    cx: &Cx,
    keys: &Keys,
    presented: &Presented,
    refresh_token: String,
) -> Result<Reply, Problem> {
    let token = &presented.token;
    tokens(cx, keys, &token.tenant_id, &token.user_id, &presented.role, refresh_token)
}

/// The successor of a token just spent, for the client that spent it and as
/// long as nobody has used the successor: then a reply got lost, and the
/// repetition gets the same one.
async fn live_successor(
    cx: &Cx,
    keys: &Keys,
    spent: &str,
    client_hash: &str,
) -> Result<Option<String>, Problem> {
    for successor in keys.refresh_successors(spent) {
        let hash = refresh_token_hash(&successor);
        if let Some(found) = refresh_tokens::find(&cx.app.platform.database, &hash).await? {
            let token = found.token;
            let same_client = token.client_hash == client_hash;
            let live = token.spent_at.is_none() && token.revoked_at.is_none();
            return Ok((same_client && live).then_some(successor));
        }
    }
    Ok(None)
}

async fn end_login(
    cx: &Cx,
    token: &RefreshToken,
    reason: &str,
    event: &str,
) -> Result<(), Problem> {
    let platform = &cx.app.platform;
    let (database, random) = (&platform.database, &platform.random);
    refresh_tokens::revoke_family(database, random, cx.now, token, reason, event, Status::Refused)
        .await
        .map_err(Problem::from)
}

/// POST `/auth/logout`: ends the login the refresh token belongs to. The
/// answer is the same for a token that is unknown, ended or somebody else's.
pub async fn logout(cx: Cx) -> Result<Reply, Problem> {
    let input: LogoutIn = cx.request.json()?;
    let caller = cx.caller()?;
    let platform = &cx.app.platform;
    let found =
        refresh_tokens::find(&platform.database, &refresh_token_hash(&input.refresh_token)).await?;
    let own = found.map(|found| found.token).filter(|token| {
        token.user_id == caller.id()
            && token.tenant_id == caller.tenant_id()
            && token.revoked_at.is_none()
    });
    if let Some(token) = own {
        refresh_tokens::revoke_family(
            &platform.database,
            &platform.random,
            cx.now,
            &token,
            "logout",
            "login.ended",
            Status::Success,
        )
        .await?;
    }
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// GET `/auth/me`.
pub async fn me(cx: Cx) -> Result<Reply, Problem> {
    let caller = cx.caller()?;
    let (username, email) = match caller.principal() {
        Principal::User { .. } => {
            let user = own_user(&cx).await?;
            (user.username, user.email)
        }
        Principal::ApiKey { name, .. } => (name.to_string(), None),
    };
    Ok(Reply::ok(&MeOut {
        id: caller.id().to_owned(),
        username,
        email,
        // What this credential may do. The role is the user's present one:
        // changing that withdraws the token.
        role: caller.role(),
        permissions: caller.permissions().to_vec(),
        tenant_id: caller.tenant_id().to_owned(),
    }))
}

/// PUT `/auth/password`: the caller's own. Ends all logins of the user.
///
/// A repetition of the same request, after a reply that got lost, finds the
/// new password in force and finishes what may be missing.
pub async fn change_password(cx: Cx) -> Result<Reply, Problem> {
    let input: ChangePasswordIn = cx.request.json()?;
    let user = own_user(&cx).await?;
    check_new_password(&input, &user)?;
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return change_again(&cx, &user, earlier).await;
    }
    let reply = Reply::empty(StatusCode::NO_CONTENT);
    // A stolen access token must not be good for more guesses than a login.
    let guesses = !user.is_locked(cx.now);
    if password::verify(&input.current_password, Some(&user.password_hash)) && guesses {
        let platform = &cx.app.platform;
        let mut salt = [0_u8; password::SALT_BYTES];
        platform.random.fill(&mut salt)?;
        let new_hash = password::hash(&input.new_password, &salt)?;
        let (database, random) = (&platform.database, &platform.random);
        let kept = once.keep(&cx, &reply);
        let changed =
            users::change_password(database, random, cx.now, &user, &new_hash, kept).await;
        match changed {
            Ok(Changed::Done) => {}
            Ok(_) => {
                return Err(Problem::new(
                    Code::Conflict,
                    "the password was changed meanwhile, or the user disabled",
                ));
            }
            Err(error) if Once::lost_race(&error) => {
                return change_again(&cx, &user, once.winner(&cx).await?).await;
            }
            Err(error) => return Err(error.into()),
        }
    } else if !password::verify(&input.new_password, Some(&user.password_hash)) {
        let entry = Entry {
            tenant_id: &user.tenant_id,
            actor: &user.id,
            event: "user.password_refused",
            status: Status::Refused,
            subject: &user.id,
        };
        note_failure(&cx, &entry, Some(&user)).await;
        warn(&cx, Some(&user.id), "change of password refused", "wrong password");
        return Err(Problem::invalid(vec![FieldError::new(
            "/current_password",
            "is not the user's password",
        )]));
    }
    withdraw_tokens(&cx, &user.tenant_id, &user.id, "the new password").await?;
    Ok(reply)
}

/// A change of password that was done already: finishes what may be missing.
/// A token issued since stays.
async fn change_again(cx: &Cx, user: &User, earlier: Earlier) -> Result<Reply, Problem> {
    if cx.caller()?.issued_at() <= earlier.done_at {
        withdraw_tokens(cx, &user.tenant_id, &user.id, "the new password").await?;
    }
    Ok(earlier.reply)
}

fn check_new_password(input: &ChangePasswordIn, user: &User) -> Result<(), Problem> {
    let mut errors = Vec::new();
    if input.current_password.len() > password::MAX_BYTES {
        errors.push(FieldError::new("/current_password", "expected at most 1024 bytes"));
    }
    let pointer = "/new_password";
    errors.extend(password::check(pointer, &input.new_password, &user.username));
    if input.new_password == input.current_password {
        errors.push(FieldError::new(pointer, "must differ from the current password"));
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

/// GET `/.well-known/jwks.json`.
pub async fn jwks(cx: Cx) -> Result<Reply, Problem> {
    Ok(Reply::ok(&signing_keys(&cx)?.jwks()).with_constant(DOCUMENT_HEADERS))
}

/// Withdraws the access tokens that a user holds now. To be called after the
/// change that makes it necessary: a token minted from the state before
/// carries the time its request began, which is earlier than this.
pub(super) async fn withdraw_tokens(
    cx: &Cx,
    tenant_id: &str,
    user_id: &str,
    what: &str,
) -> Result<(), Problem> {
    let platform = &cx.app.platform;
    let issued_before = Timestamp::from_millis(platform.clock.now_ms());
    let withdrawn =
        crate::objects::board::revoke_tokens(platform, tenant_id, user_id, issued_before).await;
    // This isolate need not wait for its board to age.
    cx.app.boards.forget(tenant_id);
    withdrawn.map_err(|error| Problem {
        cause: Some(format!("tokens not withdrawn: {error}").into()),
        ..Problem::new(
            Code::Unavailable,
            format!(
                "{what} is stored, but access tokens issued before it could not be withdrawn \
                 and stay valid for up to {} minutes; repeat the request to withdraw them",
                ACCESS_TOKEN_LIFETIME_S / 60
            ),
        )
        .with_header("retry-after", "2")
    })
}

/// The keys, or 503 with the name of the secret that is missing or unfit.
fn signing_keys(cx: &Cx) -> Result<&Keys, Problem> {
    cx.app.verifier.keys().map_err(|defect| Problem::new(Code::NotConfigured, defect.to_string()))
}

/// The row of the caller.
async fn own_user(cx: &Cx) -> Result<User, Problem> {
    let caller = cx.caller()?;
    users::find(&cx.app.platform.database, caller.tenant_id(), caller.id())
        .await?
        .ok_or_else(|| Problem::new(Code::InvalidToken, "the token's user does not exist"))
}

fn tokens(
    cx: &Cx,
    keys: &Keys,
    tenant_id: &str,
    user_id: &str,
    role: &str,
    refresh_token: String,
) -> Result<Reply, Problem> {
    let role = parse_role(role)?;
    let mut random = [0_u8; 10];
    cx.app.platform.random.fill(&mut random)?;
    let grant = Grant { tenant_id, user_id, role };
    Ok(Reply::ok(&TokenOut {
        // As of the start of the request, before the role was read: see
        // `withdraw_tokens`.
        access_token: keys.sign(&grant, cx.now, &random),
        refresh_token,
        token_type: "bearer".to_owned(),
        expires_in: ACCESS_TOKEN_LIFETIME_S,
    }))
}

/// The role of a row. The table's CHECK knows the same names.
pub(super) fn parse_role(name: &str) -> Result<Role, Problem> {
    Role::parse(name).ok_or_else(|| Problem::internal(format!("unknown role {name} in a row")))
}

fn invalid_refresh_token() -> Problem {
    Problem::new(Code::InvalidRefreshToken, "the refresh token is not valid; log in again")
        .with_header("www-authenticate", "Bearer")
}

/// What a client looks like, to know a repetition of its own from somebody
/// else's. With the family in it, the hash says nothing across logins.
fn client_hash(family_id: &str, headers: &Headers) -> String {
    let user_agent = headers.get("user-agent").unwrap_or_default();
    let address = headers.get("cf-connecting-ip").unwrap_or_default();
    sha256_hex(format!("{family_id}\n{user_agent}\n{address}").as_bytes())
}

/// A refusal stands whether or not it could be written down.
async fn note_failure(cx: &Cx, entry: &Entry<'_>, user: Option<&User>) {
    let Platform { database, random, log, .. } = &cx.app.platform;
    if let Err(error) = users::note_failure(database, random, cx.now, entry, user).await {
        let what = format!("{} not recorded", entry.event);
        crate::log::warn(log, cx.now, DATASET, &what, &error.to_string());
    }
}

/// Counts a login against the account it is for, whoever tries it from
/// wherever: by the user's id, or by what was typed where nobody is called
/// so. Only a hash leaves here: what was typed may be a password.
async fn count_account(cx: &Cx, account: &str) -> Result<(), Problem> {
    let App { limiter, platform, config, .. } = &*cx.app;
    if !config.rate_limiting {
        return Ok(());
    }
    let hash: String = sha256_hex(account.to_lowercase().as_bytes()).chars().take(32).collect();
    let subject = Subject {
        client: ClientName { tenant_id: None, id: format!("account:{hash}") },
        class: LimitClass::Account,
        limits: Limits::default(),
        minds_settings: false,
    };
    match limiter.count(platform, &subject, cx.now).await? {
        Counted::Passed { quotas_known: true, .. } => Ok(()),
        _ => Err(limiter::unenforceable()),
    }
}

fn warn(cx: &Cx, user_id: Option<&str>, what: &str, why: &str) {
    let mut event = Event::new(cx.now, Level::Warn, DATASET, what).error("refused", why);
    event.request_id = Some(&cx.request_id);
    event.user_id = user_id;
    event.write(&cx.app.platform.log);
}
