//! What a row of the route table says.

use crate::auth::permission::Permission;
use crate::domain::rate_limit::LimitClass;
use ::http::Method;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone; a token is neither needed nor looked at.
    Public,
    /// Anyone while `PUBLIC_HEALTH` is on; a token that is presented must be
    /// valid and hold the permission, and then shows more.
    PublicHealth(Permission),
    /// Anyone with a valid access token or API key.
    Authenticated,
    /// A user with a valid access token; an API key is no user.
    User,
    /// A valid access token or API key that holds the permission.
    Requires(Permission),
}

/// What a request body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    None,
    Json,
    /// JSON, or the form encoding of OAuth 2.
    JsonOrForm,
}

/// One row of the route table; `H` is what answers it.
pub struct Route<H> {
    /// Stable name: log lines, OpenAPI `operationId`, examples.
    pub id: &'static str,
    pub method: Method,
    /// Path with `{parameters}`.
    pub path: &'static str,
    pub summary: &'static str,
    pub access: Access,
    pub limit: LimitClass,
    pub body: BodyKind,
    pub request: Option<Shape>,
    pub response: Option<Shape>,
    /// Status of success.
    pub status: u16,
    /// Media types of success, the default first.
    pub media: &'static [&'static str],
    /// A repetition with the same `Idempotency-Key` is done once.
    pub takes_key: bool,
    /// Page by page, with `limit` and `cursor`.
    pub paged: bool,
    /// Has a strong `ETag`, and 304 for `If-None-Match`.
    pub tagged: bool,
    /// Minds `If-Match`.
    pub minds_if_match: bool,
    /// Nothing is changed without `If-Match`.
    pub needs_if_match: bool,
    pub handler: H,
}

const JSON: &[&str] = &["application/json"];

/// A constructor for each method, so that a row of the table reads in order.
macro_rules! methods {
    ($($name:ident $method:ident),*) => {$(
        pub const fn $name(
            id: &'static str,
            path: &'static str,
            access: Access,
            summary: &'static str,
            handler: H,
        ) -> Self {
            Self::new(Method::$method, id, path, access, summary, handler)
        }
    )*};
}

impl<H: Copy> Route<H> {
    const fn new(
        method: Method,
        id: &'static str,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self {
            id,
            method,
            path,
            summary,
            access,
            limit: LimitClass::Default,
            body: BodyKind::None,
            request: None,
            response: None,
            status: 200,
            media: JSON,
            takes_key: false,
            paged: false,
            tagged: false,
            minds_if_match: false,
            needs_if_match: false,
            handler,
        }
    }

    methods! { get GET, post POST, put PUT, patch PATCH, delete DELETE }

    pub const fn limit(mut self, limit: LimitClass) -> Self {
        self.limit = limit;
        self
    }

    /// A JSON body of this shape is required.
    pub const fn takes<T: Described>(mut self) -> Self {
        self.body = BodyKind::Json;
        self.request = Some(Shape::of::<T>());
        self
    }

    /// As [`Route::takes`], and the form encoding of OAuth 2 as well.
    pub const fn takes_json_or_form<T: Described>(mut self) -> Self {
        self.body = BodyKind::JsonOrForm;
        self.request = Some(Shape::of::<T>());
        self
    }

    pub const fn replies<T: Described>(mut self, status: u16) -> Self {
        self.response = Some(Shape::of::<T>());
        self.status = status;
        self
    }

    /// Success has no body.
    pub const fn replies_nothing(mut self) -> Self {
        self.status = 204;
        self.media = &[];
        self
    }

    /// A repetition with the same `Idempotency-Key` is done once.
    pub const fn once(mut self) -> Self {
        self.takes_key = true;
        self
    }

    /// A list page by page.
    pub const fn paged(mut self) -> Self {
        self.paged = true;
        self
    }

    /// The reply has a strong `ETag`; who has it already gets 304.
    pub const fn tagged(mut self) -> Self {
        self.tagged = true;
        self
    }

    /// A change that `If-Match` can tie to a state.
    pub const fn if_match(mut self) -> Self {
        self.minds_if_match = true;
        self
    }

    /// A change that `If-Match` must tie to a state.
    pub const fn needs_if_match(mut self) -> Self {
        self.minds_if_match = true;
        self.needs_if_match = true;
        self
    }

    pub const fn media(mut self, media: &'static [&'static str]) -> Self {
        self.media = media;
        self
    }
}

/// The schema of a wire type. Only the host writes the OpenAPI document, so
/// the Worker carries no schema code.
#[derive(Clone, Copy)]
pub struct Shape {
    #[cfg(not(target_arch = "wasm32"))]
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

#[cfg(not(target_arch = "wasm32"))]
pub use schemars::JsonSchema as Described;

/// On wasm32 every type counts as described.
#[cfg(target_arch = "wasm32")]
pub trait Described {}
#[cfg(target_arch = "wasm32")]
impl<T> Described for T {}

impl Shape {
    #[cfg(not(target_arch = "wasm32"))]
    const fn of<T: Described>() -> Self {
        Self { schema: schemars::SchemaGenerator::subschema_for::<T> }
    }

    #[cfg(target_arch = "wasm32")]
    #[allow(clippy::extra_unused_type_parameters, reason = "the host's body uses it")]
    const fn of<T: Described>() -> Self {
        Self {}
    }
}
