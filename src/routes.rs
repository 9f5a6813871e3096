//! EVERY ROUTE. The router, the permission check, the rate-limit class, the
//! OpenAPI document and `/docs/endpoints` all come from this table.

use crate::auth::permission::Permission::{
    ConfigRead, DecisionsWrite, DocsRead, IngestWrite, MetricsRead, PartnershipsRead,
    PartnershipsWrite, SystemRead, UsersRead, UsersWrite,
};
use crate::domain::readiness::ReadinessReport;
use crate::http::app::{Endpoint, Handler};
use crate::http::route::Access::{Authenticated, Public, PublicHealth, Requires};
use crate::http::route::{LimitClass, Route};
use crate::http::{
    config, decisions, docs, health, info, ingest, login, metrics, openapi, partnerships,
    readiness, registry, status, users,
};

/// The table wants a plain function; handlers are `async`.
macro_rules! run {
    ($handler:path) => {
        (|cx| Box::pin($handler(cx))) as Handler
    };
}

/// A path of the orchestration API.
macro_rules! api {
    ($path:literal) => {
        concat!("/api/v1/orchestration", $path)
    };
}

#[rustfmt::skip]
pub static ROUTES: &[Endpoint] = &[
    // ---- the eleven ----
    Route::get("health", api!("/health"), PublicHealth(MetricsRead),
        "How the partners are doing, in one look", run!(health::health))
        .replies::<health::HealthOut>(200),
    Route::get("list_metrics", api!("/metrics"), Requires(MetricsRead),
        "Metrics of every partnership; OpenMetrics or Prometheus text by Accept", run!(metrics::list))
        .replies::<Vec<metrics::MetricsOut>>(200)
        .media(&["application/json", "application/openmetrics-text", "text/plain"]),
    Route::get("get_metrics", api!("/metrics/{type}"), Requires(MetricsRead),
        "Metrics of one partnership, by id or alias", run!(metrics::one))
        .replies::<metrics::MetricsOut>(200),
    Route::post("decide", api!("/decisions"), Requires(DecisionsWrite),
        "Appraise an investment; stored with its inputs and author", run!(decisions::decide))
        .takes::<decisions::DecisionIn>()
        .replies::<decisions::DecisionOut>(200)
        .limit(LimitClass::Decisions),
    Route::get("list_partnerships", api!("/partnerships"), Requires(PartnershipsRead),
        "Every partnership: what was agreed and how far it is kept", run!(partnerships::list))
        .replies::<Vec<partnerships::PartnershipOut>>(200),
    Route::get("get_partnership_status", api!("/partnerships/{id}/status"), Requires(PartnershipsRead),
        "One partnership, by id or alias", run!(partnerships::one))
        .replies::<partnerships::PartnershipOut>(200),
    Route::get("status", api!("/status"), Requires(SystemRead),
        "Is each part of this service there, checked at this call", run!(status::status))
        .replies::<status::StatusOut>(200),
    Route::get("config", api!("/config"), Requires(ConfigRead),
        "The values in force; secrets never", run!(config::config))
        .replies::<config::ConfigOut>(200),
    Route::get("readiness", api!("/deployment/readiness"), Requires(SystemRead),
        "May this deployment serve production", run!(readiness::readiness))
        .replies::<ReadinessReport>(200),
    Route::get("info", api!("/info"), Requires(SystemRead),
        "What this is, how much of it there is, and who is asking", run!(info::info))
        .replies::<info::InfoOut>(200),
    Route::get("list_endpoints", api!("/docs/endpoints"), Requires(DocsRead),
        "Every route with access and examples", run!(docs::endpoints))
        .replies::<docs::EndpointsOut>(200),

    // ---- registry ----
    Route::post("create_partnership", api!("/partnerships"), Requires(PartnershipsWrite),
        "Add a partnership", run!(registry::create))
        .takes::<registry::PartnershipIn>()
        .replies::<partnerships::PartnershipOut>(201),
    Route::patch("change_partnership", api!("/partnerships/{id}"), Requires(PartnershipsWrite),
        "Change what was agreed or how it is checked", run!(registry::patch))
        .takes::<registry::PartnershipPatchIn>()
        .replies::<partnerships::PartnershipOut>(200),
    Route::delete("retire_partnership", api!("/partnerships/{id}"), Requires(PartnershipsWrite),
        "Retire a partnership; its history stays", run!(registry::retire))
        .replies_nothing(),
    Route::put("report_deliverable", api!("/partnerships/{id}/deliverables/{key}"), Requires(PartnershipsWrite),
        "Say how far a deliverable is", run!(registry::put_deliverable))
        .takes::<registry::DeliverableIn>()
        .replies::<partnerships::DeliverableOut>(200),

    // ---- ingest ----
    Route::post("push_observations", api!("/partnerships/{id}/observations"), Requires(IngestWrite),
        "Push up to 500 observations; each bad row is refused with its reason", run!(ingest::observations))
        .takes::<ingest::ObservationsIn>()
        .replies::<ingest::IngestOut>(202)
        .limit(LimitClass::Ingest),
    Route::post("push_kpi", api!("/partnerships/{id}/kpis/{name}"), Requires(IngestWrite),
        "Send a KPI's value, or up to 500 of them", run!(ingest::kpi))
        .takes::<ingest::KpiIn>()
        .replies::<ingest::KpiAcceptedOut>(202)
        .limit(LimitClass::Ingest),

    // ---- login and users ----
    Route::post("login", "/api/v1/auth/login", Public,
        "Log in with a password", run!(login::login))
        .takes_json_or_form::<login::LoginIn>()
        .replies::<login::TokenOut>(200)
        .limit(LimitClass::Login),
    Route::post("refresh", "/api/v1/auth/refresh", Public,
        "Trade a refresh token for the next one and an access token", run!(login::refresh))
        .takes::<login::RefreshIn>()
        .replies::<login::TokenOut>(200)
        .limit(LimitClass::Login),
    Route::post("logout", "/api/v1/auth/logout", Authenticated,
        "End a login: its refresh tokens stop working", run!(login::logout))
        .takes::<login::LogoutIn>()
        .replies_nothing(),
    Route::get("me", "/api/v1/auth/me", Authenticated,
        "Who am I", run!(login::me))
        .replies::<login::MeOut>(200),
    Route::put("change_password", "/api/v1/auth/password", Authenticated,
        "Change one's own password; ends all logins", run!(login::change_password))
        .takes::<login::ChangePasswordIn>()
        .replies_nothing()
        .limit(LimitClass::Login),
    Route::get("list_users", "/api/v1/auth/users", Requires(UsersRead),
        "The tenant's users", run!(users::list))
        .replies::<users::UsersOut>(200),
    Route::post("create_user", "/api/v1/auth/users", Requires(UsersWrite),
        "Add a user", run!(users::create))
        .takes::<users::CreateUserIn>()
        .replies::<users::UserOut>(201),
    Route::patch("change_user", "/api/v1/auth/users/{id}", Requires(UsersWrite),
        "Change a user's role, or disable him", run!(users::change))
        .takes::<users::ChangeUserIn>()
        .replies::<users::UserOut>(200),

    // ---- documents ----
    Route::get("jwks", "/.well-known/jwks.json", Public,
        "Public keys that verify access tokens (RFC 7517)", run!(login::jwks))
        .replies::<crate::auth::token::Jwks>(200)
        .limit(LimitClass::Documents),
    Route::get("openapi", "/openapi.json", Public,
        "This document", run!(openapi::document))
        .replies::<serde_json::Value>(200)
        .limit(LimitClass::Documents),
    Route::get("docs", "/docs", Public,
        "This document as a page", run!(docs::page))
        .media(&["text/html"])
        .limit(LimitClass::Documents),
    Route::get("docs_asset", "/docs-assets/{file}", Public,
        "Files of the page", run!(docs::asset))
        .media(&["text/javascript", "text/css", "text/plain"])
        .limit(LimitClass::Documents),
];
