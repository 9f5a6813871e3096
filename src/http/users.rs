//! `/api/v1/auth/users`: the users of the caller's tenant. Admins only, by
//! the route table.

use super::login::{parse_role, withdraw_tokens};
use super::problem::{Code, Problem};
use super::{Cx, Reply};
use crate::auth::password;
use crate::auth::permission::Role;
use crate::domain::id::IdKind;
use crate::domain::time::Timestamp;
use crate::domain::validation::FieldError;
use crate::store::new_id;
use crate::store::users::{self, Change, Changed, Created, NewUser, PasswordSource, User};
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
            created_at: user.created_at,
            created_by: user.created_by,
            updated_at: user.updated_at,
        })
    }
}

/// Oldest first, at most 200.
#[derive(Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct UsersOut {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = 200)))]
    pub users: Vec<UserOut>,
}

/// GET `/auth/users`.
pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let users = users::list(&cx.app.platform.database, cx.caller()?.tenant_id()).await?;
    let users = users.into_iter().map(UserOut::from_row).collect::<Result<_, _>>()?;
    Ok(Reply::ok(&UsersOut { users }))
}

/// POST `/auth/users`.
pub async fn create(cx: Cx) -> Result<Reply, Problem> {
    let input: CreateUserIn = cx.request.json()?;
    let role = check_new(&input)?;
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
        created_by: caller.user_id(),
    };
    let taken = match users::create(&platform.database, &platform.random, cx.now, &new).await? {
        Created::Done => {
            let out = UserOut {
                id: new.id.to_owned(),
                username: input.username.clone(),
                email: input.email.clone(),
                role,
                disabled: false,
                disabled_at: None,
                created_at: cx.now,
                created_by: caller.user_id().to_owned(),
                updated_at: cx.now,
            };
            return Ok(Reply::json(StatusCode::CREATED, &out));
        }
        Created::UsernameTaken => FieldError::new("/username", "is taken"),
        Created::EmailTaken => FieldError::new("/email", "is taken"),
    };
    let field = taken.pointer.trim_start_matches('/').to_owned();
    Err(Problem {
        errors: vec![taken],
        ..Problem::new(Code::Conflict, format!("there is a user with this {field}"))
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
    check_change(&input, caller.user_id() == id)?;
    let platform = &cx.app.platform;
    let database = &platform.database;
    let before = find(&cx, id).await?;
    let role = input.role.map(Role::name);
    let change = Change { role, disabled: input.disabled };
    let random = &platform.random;
    match users::change(database, random, cx.now, caller.user_id(), &before, change).await? {
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
