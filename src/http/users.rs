//! `/api/v1/auth/users`: the users of the caller's tenant. Admins only, by
//! the route table.

use super::idempotency::Once;
use super::login::{parse_role, withdraw_tokens};
use super::pages::Page;
use super::problem::{Code, Problem};
use super::{Cx, Reply};
use crate::auth::password;
use crate::auth::permission::Role;
use crate::domain::id::IdKind;
use crate::domain::time::Timestamp;
use crate::domain::validation::FieldError;
use crate::store::new_id;
use crate::store::users::{self, Change, Changed, NewUser, PasswordSource, User};
use ::http::StatusCode;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateUserIn {
    /// 3 to 64 ASCII letters, digits, `.`, `_` or `-`. Case does not count.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = users::USERNAME)))]
    pub username: String,
    /// At most 254 bytes, 64 of them before the `@`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = users::MAX_NAME_BYTES), regex(pattern = users::EMAIL)))]
    #[serde(default)]
    pub email: Option<String>,
    /// 12 to 128 characters, not the user name.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 12, max = 128)))]
    pub password: String,
    // Read as text, so that it is checked together with the other fields.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Role"))]
    pub role: String,
}

/// At least one of them.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(extend("anyOf" = [
    { "required": ["role"], "properties": { "role": { "type": "string" } } },
    { "required": ["disabled"], "properties": { "disabled": { "type": "boolean" } } },
])))]
#[serde(deny_unknown_fields)]
pub struct ChangeUserIn {
    #[serde(default)]
    pub role: Option<Role>,
    /// True ends all logins of the user.
    #[serde(default)]
    pub disabled: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct UserOut {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = crate::domain::id::USER_ID)))]
    pub id: String,
    pub username: String,
    pub email: Option<String>,
    pub role: Role,
    pub disabled: bool,
    pub disabled_at: Option<Timestamp>,
    /// After five logins that failed: nobody can log in before then.
    pub locked_until: Option<Timestamp>,
    pub created_at: Timestamp,
    /// A user's id, or `system`.
    pub created_by: String,
    pub updated_at: Timestamp,
}

impl UserOut {
    fn from_row(user: User) -> Result<Self, Problem> {
        Ok(Self {
            role: parse_role(&user.role)?,
            id: user.id,
            username: user.username,
            email: user.email,
            disabled: user.disabled_at.is_some(),
            disabled_at: user.disabled_at,
            locked_until: user.locked_until,
            created_at: user.created_at,
            created_by: user.created_by,
            updated_at: user.updated_at,
        })
    }
}

/// Oldest first.
#[derive(Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct UsersOut {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = 200)))]
    pub users: Vec<UserOut>,
    /// For the page after this one; null: this is the last.
    pub next_cursor: Option<String>,
}

/// GET `/auth/users`.
pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let page = Page::of(&cx)?;
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let after = page.after.as_deref().unwrap_or_default();
    let mut users = users::list(database, tenant_id, after, page.fetch()).await?;
    let next_cursor = page.cut(&cx, &mut users, |user| user.id.clone());
    let users = users.into_iter().map(UserOut::from_row).collect::<Result<_, _>>()?;
    let out = UsersOut { users, next_cursor };
    Ok(page.link(&cx, Reply::ok(&out), out.next_cursor.as_deref()))
}

/// POST `/auth/users`.
pub async fn create(cx: Cx) -> Result<Reply, Problem> {
    let input: CreateUserIn = cx.request.json()?;
    let role = check_new(&input)?;
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return Ok(earlier.reply);
    }
    let caller = cx.caller()?;
    let platform = &cx.app.platform;
    let mut salt = [0_u8; password::SALT_BYTES];
    platform.random.fill(&mut salt)?;
    let new = NewUser {
        id: &new_id(&platform.random, IdKind::User, cx.now)?,
        tenant_id: caller.tenant_id(),
        username: &input.username,
        email: input.email.as_deref(),
        password_hash: &password::hash(&input.password, &salt)?,
        password_source: PasswordSource::Admin,
        role: role.name(),
        created_by: caller.id(),
    };
    let out = UserOut {
        id: new.id.to_owned(),
        username: input.username.clone(),
        email: input.email.clone(),
        role,
        disabled: false,
        disabled_at: None,
        locked_until: None,
        created_at: cx.now,
        created_by: caller.id().to_owned(),
        updated_at: cx.now,
    };
    let reply = Reply::json(StatusCode::CREATED, &out);
    // The key first: it tells a repetition from another user of the name.
    let mut statements = Vec::from_iter(once.keep(&cx, &reply));
    statements.extend(users::insert(&platform.random, cx.now, &new)?);
    let taken = match platform.database.batch(statements).await {
        Ok(_) => return Ok(reply),
        Err(error) if Once::lost_race(&error) => return Ok(once.winner(&cx).await?.reply),
        Err(error) if error.is_constraint(users::USERNAME_TAKEN) => "username",
        Err(error) if error.is_constraint(users::EMAIL_TAKEN) => "email",
        Err(error) => return Err(error.into()),
    };
    Err(Problem {
        errors: vec![FieldError::new(format!("/{taken}"), "is taken")],
        ..Problem::new(Code::Conflict, format!("there is a user with this {taken}"))
    })
}

/// Everything that is wrong, at once; the role if nothing is.
fn check_new(input: &CreateUserIn) -> Result<Role, Problem> {
    let mut errors = Vec::new();
    errors.extend(users::check_username("/username", &input.username));
    errors.extend(input.email.as_deref().and_then(|email| users::check_email("/email", email)));
    errors.extend(password::check("/password", &input.password, &input.username));
    match Role::parse(&input.role) {
        Some(role) if errors.is_empty() => return Ok(role),
        Some(_) => {}
        None => {
            let names: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
            let detail = format!("expected one of {}", names.join(", "));
            errors.push(FieldError::new("/role", detail));
        }
    }
    Err(Problem::invalid(errors))
}

/// PATCH `/auth/users/{id}`.
///
/// A repetition finds the change made and withdraws tokens once more, which
/// costs the user a refresh and makes up for a withdrawal that failed.
pub async fn change(cx: Cx) -> Result<Reply, Problem> {
    let input: ChangeUserIn = cx.request.json()?;
    let caller = cx.caller()?;
    let id = cx.param("id")?;
    check_change(&input, caller.id() == id)?;
    let platform = &cx.app.platform;
    let database = &platform.database;
    let before = find(&cx, id).await?;
    let role = input.role.map(Role::name);
    let change = Change { role, disabled: input.disabled };
    let random = &platform.random;
    match users::change(database, random, cx.now, caller.id(), &before, change).await? {
        Changed::Done => {}
        Changed::Stale => {
            return Err(Problem::new(
                Code::Conflict,
                "somebody else changed the user at the same moment; read it again",
            ));
        }
        Changed::LastAdmin => {
            return Err(Problem::new(
                Code::Conflict,
                "the tenant would be left without an admin who can log in",
            ));
        }
    }
    if input.role.is_some() || input.disabled == Some(true) {
        withdraw_tokens(&cx, caller.tenant_id(), id, "the change").await?;
    }
    Ok(Reply::ok(&UserOut::from_row(find(&cx, id).await?)?))
}

/// `own` is true where the caller is the user to be changed.
fn check_change(input: &ChangeUserIn, own: bool) -> Result<(), Problem> {
    let mut errors = Vec::new();
    if input.role.is_none() && input.disabled.is_none() {
        errors.push(FieldError::new("", "expected role, disabled or both"));
    }
    if own && input.role.is_some_and(|role| role != Role::Admin) {
        errors.push(FieldError::new("/role", "you cannot give up your own admin role"));
    }
    if own && input.disabled == Some(true) {
        errors.push(FieldError::new("/disabled", "you cannot disable yourself"));
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

/// A user of the caller's tenant; another tenant's is not found.
async fn find(cx: &Cx, id: &str) -> Result<User, Problem> {
    users::find(&cx.app.platform.database, cx.caller()?.tenant_id(), id)
        .await?
        .ok_or_else(|| Problem::not_found("there is no user with this id"))
}
