//! EVERY ROUTE. The router, the permission check, the rate-limit class, the
//! OpenAPI document and `/docs/endpoints` all come from this table.

use crate::auth::permission::Permission::{
    BackupsRead, BackupsWrite, ChannelsRead, ChannelsWrite, ConfigRead, ConfigWrite, DecisionsRead,
    DecisionsWrite, DocsRead, IncidentsRead, IncidentsWrite, IngestWrite, KeysRead, KeysWrite,
    LimitsRead, LimitsWrite, MetricsRead, PartnershipsRead, PartnershipsWrite, PoliciesRead,
    PoliciesWrite, SystemRead, UsersRead, UsersWrite,
};
use crate::domain::rate_limit::LimitClass;
use crate::domain::readiness::ReadinessReport;
use crate::http::app::{Endpoint, Handler};
use crate::http::route::Access::{Authenticated, Public, PublicHealth, Requires, User};
use crate::http::route::Route;
use crate::http::{
    activity, alert_policies, backups, channels, config, decisions, docs, health, incidents, info,
    ingest, keys, login, maintenance, metrics, openapi, partnerships, policies, rate_limits,
    readiness, registry, slos, status, users,
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
        .media(&["application/json", "application/openmetrics-text", "text/plain"])
        .limit(LimitClass::Metrics),
    Route::get("get_metrics", api!("/metrics/{type}"), Requires(MetricsRead),
        "Metrics of one partnership, by id or alias", run!(metrics::one))
        .replies::<metrics::MetricsOut>(200)
        .limit(LimitClass::Metrics),
    Route::post("decide", api!("/decisions"), Requires(DecisionsWrite),
        "Answer a question: an investment, a strategy or a choice; with a signed receipt", run!(decisions::decide))
        .takes::<decisions::DecisionIn>()
        .replies::<decisions::DecisionOut>(200)
        .limit(LimitClass::Decisions)
        .once(),
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
        .replies::<config::ConfigOut>(200)
        .tagged(),
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
        .replies::<partnerships::PartnershipOut>(201)
        .once(),
    Route::get("get_partnership", api!("/partnerships/{id}"), Requires(PartnershipsRead),
        "What was agreed, as the registry holds it; its ETag is what If-Match names", run!(registry::show))
        .replies::<registry::RegistryOut>(200)
        .tagged(),
    Route::patch("change_partnership", api!("/partnerships/{id}"), Requires(PartnershipsWrite),
        "Change what was agreed or how it is checked", run!(registry::patch))
        .takes::<registry::PartnershipPatchIn>()
        .replies::<partnerships::PartnershipOut>(200)
        .if_match(),
    Route::delete("retire_partnership", api!("/partnerships/{id}"), Requires(PartnershipsWrite),
        "Retire a partnership; its history stays", run!(registry::retire))
        .replies_nothing()
        .if_match(),
    Route::get("get_deliverable", api!("/partnerships/{id}/deliverables/{key}"), Requires(PartnershipsRead),
        "How far a deliverable is", run!(registry::show_deliverable))
        .replies::<partnerships::DeliverableOut>(200)
        .tagged(),
    Route::put("report_deliverable", api!("/partnerships/{id}/deliverables/{key}"), Requires(PartnershipsWrite),
        "Say how far a deliverable is", run!(registry::put_deliverable))
        .takes::<registry::DeliverableIn>()
        .replies::<partnerships::DeliverableOut>(200)
        .once()
        .if_match(),

    // ---- objectives and maintenance ----
    Route::get("list_slos", api!("/partnerships/{id}/slos"), Requires(PartnershipsRead),
        "Objectives of a partnership with budget and burn", run!(slos::list))
        .replies::<slos::SlosOut>(200),
    Route::post("create_slo", api!("/partnerships/{id}/slos"), Requires(PartnershipsWrite),
        "Add an objective: availability, or latency below a threshold", run!(slos::create))
        .takes::<slos::SloIn>()
        .replies::<slos::SloOut>(201)
        .once(),
    Route::get("get_slo", api!("/partnerships/{id}/slos/{key}"), Requires(PartnershipsRead),
        "One objective with budget and burn", run!(slos::show))
        .replies::<slos::SloOut>(200),
    Route::patch("change_slo", api!("/partnerships/{id}/slos/{key}"), Requires(PartnershipsWrite),
        "Change an objective", run!(slos::patch))
        .takes::<slos::SloPatchIn>()
        .replies::<slos::SloOut>(200),
    Route::delete("delete_slo", api!("/partnerships/{id}/slos/{key}"), Requires(PartnershipsWrite),
        "Delete an objective; its alerts end", run!(slos::delete))
        .replies_nothing(),
    Route::get("list_maintenance", api!("/partnerships/{id}/maintenance"), Requires(PartnershipsRead),
        "Maintenance that goes on or can still come", run!(maintenance::list))
        .replies::<maintenance::MaintenanceListOut>(200),
    Route::post("create_maintenance", api!("/partnerships/{id}/maintenance"), Requires(PartnershipsWrite),
        "Announce maintenance, once or every week: what is observed then burns no budget", run!(maintenance::create))
        .takes::<maintenance::MaintenanceIn>()
        .replies::<maintenance::MaintenanceOut>(201)
        .once(),
    Route::delete("delete_maintenance", api!("/partnerships/{id}/maintenance/{window}"), Requires(PartnershipsWrite),
        "End maintenance now, or call it off", run!(maintenance::delete))
        .replies_nothing(),

    // ---- incidents ----
    Route::get("list_incidents", api!("/incidents"), Requires(IncidentsRead),
        "Incidents, newest first; by state and partnership", run!(incidents::list))
        .replies::<incidents::IncidentsOut>(200)
        .paged(),
    Route::get("get_incident", api!("/incidents/{id}"), Requires(IncidentsRead),
        "One incident with its timeline", run!(incidents::show))
        .replies::<incidents::StoryOut>(200),
    Route::post("acknowledge_incident", api!("/incidents/{id}/acknowledge"), Requires(IncidentsWrite),
        "Say that you look after it", run!(incidents::acknowledge))
        .replies::<incidents::StoryOut>(200)
        .once(),
    Route::post("resolve_incident", api!("/incidents/{id}/resolve"), Requires(IncidentsWrite),
        "End it by hand; while its alerts last it does not open again", run!(incidents::resolve))
        .replies::<incidents::StoryOut>(200)
        .once(),
    Route::post("note_incident", api!("/incidents/{id}/notes"), Requires(IncidentsWrite),
        "Write a note into its timeline", run!(incidents::note))
        .takes::<incidents::NoteIn>()
        .replies::<incidents::StoryOut>(200)
        .once(),
    Route::post("simulate_alerts", api!("/alert-policies/simulate"), Requires(PartnershipsRead),
        "What another alert policy would have done to the stored samples", run!(alert_policies::simulate))
        .takes::<alert_policies::SimulateIn>()
        .replies::<alert_policies::SimulationOut>(200)
        .limit(LimitClass::Decisions),

    // ---- ingest ----
    Route::post("push_observations", api!("/partnerships/{id}/observations"), Requires(IngestWrite),
        "Push up to 500 observations; each bad row is refused with its reason", run!(ingest::observations))
        .takes::<ingest::ObservationsIn>()
        .replies::<ingest::IngestOut>(202)
        .limit(LimitClass::Ingest)
        .once(),
    Route::post("push_kpi", api!("/partnerships/{id}/kpis/{name}"), Requires(IngestWrite),
        "Send a KPI's value, or up to 500 of them", run!(ingest::kpi))
        .takes::<ingest::KpiIn>()
        .replies::<ingest::KpiAcceptedOut>(202)
        .limit(LimitClass::Ingest)
        .once(),

    // ---- operation ----
    Route::get("list_decisions", api!("/decisions"), Requires(DecisionsRead),
        "Decisions made so far, newest first; by kind, author, decision and time", run!(decisions::list))
        .replies::<decisions::DecisionsOut>(200)
        .paged(),
    Route::get("decision_quality", api!("/decisions/quality"), Requires(DecisionsRead),
        "Was the engine right: Brier score, calibration and accuracy", run!(decisions::quality))
        .replies::<decisions::QualityOut>(200),
    Route::get("get_decision", api!("/decisions/{id}"), Requires(DecisionsRead),
        "A receipt with all that is needed to check it elsewhere", run!(decisions::show))
        .replies::<decisions::DecisionRecordOut>(200)
        .tagged(),
    Route::post("replay_decision", api!("/decisions/{id}/replay"), Requires(DecisionsRead),
        "Conclude once more from the stored evidence and policy", run!(decisions::replay))
        .replies::<crate::domain::decision::receipt::Replay>(200)
        .limit(LimitClass::Decisions),
    Route::post("what_if", api!("/decisions/{id}/what-if"), Requires(DecisionsRead),
        "What would follow from other weights, facts or constraints; nothing is stored", run!(decisions::what_if))
        .takes::<crate::domain::decision::receipt::Changes>()
        .replies::<decisions::WhatIfOut>(200)
        .limit(LimitClass::Decisions),
    Route::post("record_outcome", api!("/decisions/{id}/outcome"), Requires(DecisionsWrite),
        "Say what became of a decision", run!(decisions::record_outcome))
        .takes::<decisions::OutcomeIn>()
        .replies::<decisions::OutcomeOut>(201)
        .once(),
    Route::get("list_policies", api!("/policies"), Requires(PoliciesRead),
        "What decisions are made by", run!(policies::list))
        .replies::<policies::PoliciesOut>(200),
    Route::get("get_policy", api!("/policies/{id}"), Requires(PoliciesRead),
        "The version in force, with its document", run!(policies::show))
        .replies::<policies::PolicyOut>(200)
        .tagged(),
    Route::put("replace_policy", api!("/policies/{id}"), Requires(PoliciesWrite),
        "Put another version in force; needs If-Match", run!(policies::replace))
        .takes::<crate::domain::decision::policy::Policy>()
        .replies::<policies::PolicyOut>(200)
        .needs_if_match(),
    Route::get("list_policy_versions", api!("/policies/{id}/versions"), Requires(PoliciesRead),
        "Versions of a policy, newest first", run!(policies::list_versions))
        .replies::<policies::PolicyVersionsOut>(200)
        .paged(),
    Route::get("get_policy_version", api!("/policies/{id}/versions/{version}"), Requires(PoliciesRead),
        "One version of a policy, with its document", run!(policies::show_version))
        .replies::<policies::PolicyOut>(200),
    Route::post("rehearse_policy", api!("/policies/{id}/rehearse"), Requires(PoliciesRead),
        "Which stored decisions a draft would have made otherwise, and why", run!(policies::rehearse))
        .takes::<policies::RehearsalIn>()
        .replies::<policies::RehearsalOut>(200)
        .limit(LimitClass::Decisions),
    Route::get("list_activity", api!("/activity"), Requires(SystemRead),
        "Who did what when, and who was turned away; newest first", run!(activity::list))
        .replies::<activity::ActivityOut>(200)
        .paged(),
    Route::patch("change_config", api!("/config"), Requires(ConfigWrite),
        "Change the tenant's settings, rate limits among them", run!(config::change))
        .takes::<config::SettingsPatchIn>()
        .replies::<config::ConfigOut>(200)
        .if_match(),
    Route::get("get_rate_limits", api!("/rate-limits/{client}"), Requires(LimitsRead),
        "What counts of a client, and what other locations see of it", run!(rate_limits::show))
        .replies::<rate_limits::ClientLimitsOut>(200),
    Route::delete("lift_block", api!("/rate-limits/{client}"), Requires(LimitsWrite),
        "End the block of a client", run!(rate_limits::lift))
        .replies_nothing(),

    // ---- channels ----
    Route::get("list_channels", api!("/channels"), Requires(ChannelsRead),
        "Where notifications go, without secrets", run!(channels::list))
        .replies::<channels::ChannelsOut>(200)
        .paged(),
    Route::post("create_channel", api!("/channels"), Requires(ChannelsWrite),
        "Add a channel; the secret of a webhook is shown this once", run!(channels::create))
        .takes::<channels::ChannelIn>()
        .replies::<channels::NewChannelOut>(201)
        .once(),
    Route::get("get_channel", api!("/channels/{id}"), Requires(ChannelsRead),
        "One channel, without its secret, and whether it takes anything", run!(channels::show))
        .replies::<channels::ChannelOut>(200)
        .tagged(),
    Route::patch("change_channel", api!("/channels/{id}"), Requires(ChannelsWrite),
        "Change a channel; one that was disabled gets another chance", run!(channels::patch))
        .takes::<channels::ChannelPatchIn>()
        .replies::<channels::ChannelOut>(200)
        .if_match(),
    Route::delete("delete_channel", api!("/channels/{id}"), Requires(ChannelsWrite),
        "Delete a channel; what waits for it is given up", run!(channels::delete))
        .replies_nothing()
        .if_match(),
    Route::post("test_channel", api!("/channels/{id}/test"), Requires(ChannelsWrite),
        "Send a test to a channel, once, and say what became of it", run!(channels::test))
        .replies::<crate::domain::delivery::Delivery>(200)
        .once(),
    Route::get("list_deliveries", api!("/channels/{id}/deliveries"), Requires(ChannelsRead),
        "What was sent to a channel, each attempt with its outcome; newest first", run!(channels::deliveries))
        .replies::<channels::DeliveriesOut>(200)
        .paged(),
    Route::post("replay_delivery", api!("/deliveries/{id}/replay"), Requires(ChannelsWrite),
        "Send what a delivery held again, under the same webhook-id", run!(channels::replay))
        .replies::<crate::domain::delivery::Delivery>(202)
        .once(),

    // ---- backups ----
    Route::get("list_backups", api!("/backups"), Requires(BackupsRead),
        "Whole sets of backups, newest first", run!(backups::list))
        .replies::<backups::BackupsOut>(200)
        .paged(),
    Route::post("create_backup", api!("/backups"), Requires(BackupsWrite),
        "Write a set of backups now, beside the hourly ones", run!(backups::create))
        .replies::<backups::BegunOut>(202),
    Route::get("get_backup", api!("/backups/{id}"), Requires(BackupsRead),
        "The manifest of a set: every file with its rows and SHA-256", run!(backups::show))
        .replies::<crate::domain::backup::Manifest>(200),
    Route::post("verify_backup", api!("/backups/{id}/verify"), Requires(BackupsWrite),
        "Check every file of a set; call again, or wait, until finished_at is set", run!(backups::verify))
        .replies::<backups::VerificationOut>(200),
    Route::post("restore_backup", api!("/backups/{id}/restore"), Requires(BackupsWrite),
        "Fill an empty environment from a set; call again until it is done", run!(backups::restore))
        .replies::<backups::RestoreOut>(200),

    // ---- login, users and keys ----
    Route::post("login", "/api/v1/auth/login", Public,
        "Log in with a password", run!(login::login))
        .takes_json_or_form::<login::LoginIn>()
        .replies::<login::TokenOut>(200)
        .limit(LimitClass::Login),
    Route::post("refresh", "/api/v1/auth/refresh", Public,
        "Trade a refresh token for the next one and an access token", run!(login::refresh))
        .takes::<login::RefreshIn>()
        .replies::<login::TokenOut>(200),
    Route::post("logout", "/api/v1/auth/logout", User,
        "End a login: its refresh tokens stop working", run!(login::logout))
        .takes::<login::LogoutIn>()
        .replies_nothing(),
    Route::get("me", "/api/v1/auth/me", Authenticated,
        "Who am I", run!(login::me))
        .replies::<login::MeOut>(200),
    Route::put("change_password", "/api/v1/auth/password", User,
        "Change one's own password; ends all logins", run!(login::change_password))
        .takes::<login::ChangePasswordIn>()
        .replies_nothing()
        .limit(LimitClass::Login)
        .once(),
    Route::get("list_users", "/api/v1/auth/users", Requires(UsersRead),
        "The tenant's users", run!(users::list))
        .replies::<users::UsersOut>(200)
        .paged(),
    Route::post("create_user", "/api/v1/auth/users", Requires(UsersWrite),
        "Add a user", run!(users::create))
        .takes::<users::CreateUserIn>()
        .replies::<users::UserOut>(201)
        .once(),
    Route::patch("change_user", "/api/v1/auth/users/{id}", Requires(UsersWrite),
        "Change a user's role, or disable him", run!(users::change))
        .takes::<users::ChangeUserIn>()
        .replies::<users::UserOut>(200),
    Route::get("list_keys", "/api/v1/auth/keys", Requires(KeysRead),
        "The tenant's API keys, without their secrets", run!(keys::list))
        .replies::<keys::KeysOut>(200)
        .paged(),
    Route::post("create_key", "/api/v1/auth/keys", Requires(KeysWrite),
        "Make an API key; it is shown this once", run!(keys::create))
        .takes::<keys::CreateKeyIn>()
        .replies::<keys::NewKeyOut>(201)
        .once(),
    Route::get("get_key", "/api/v1/auth/keys/{id}", Requires(KeysRead),
        "One API key, without its secret", run!(keys::show))
        .replies::<keys::KeyOut>(200),
    Route::delete("revoke_key", "/api/v1/auth/keys/{id}", Requires(KeysWrite),
        "Revoke an API key", run!(keys::revoke))
        .replies_nothing(),
    Route::post("rotate_key", "/api/v1/auth/keys/{id}/rotate", Requires(KeysWrite),
        "Replace an API key; the old one works on for an overlap", run!(keys::rotate))
        .takes::<keys::RotateKeyIn>()
        .replies::<keys::NewKeyOut>(201)
        .once(),

    // ---- for scrapers ----
    Route::get("scrape", "/metrics", Requires(MetricsRead),
        "Metrics as Prometheus text, or as OpenMetrics where Accept prefers it", run!(metrics::scrape))
        .media(&["text/plain", "application/openmetrics-text"])
        .limit(LimitClass::Metrics),

    // ---- documents ----
    Route::get("jwks", "/.well-known/jwks.json", Public,
        "Public keys that verify access tokens (RFC 7517)", run!(login::jwks))
        .replies::<crate::auth::token::Jwks>(200)
        .limit(LimitClass::Documents)
        .tagged(),
    Route::get("receipt_keys", "/.well-known/receipt-keys.json", Public,
        "Public keys that ever signed a receipt (RFC 7517)", run!(decisions::receipt_keys))
        .replies::<decisions::ReceiptKeysOut>(200)
        .limit(LimitClass::Documents)
        .tagged(),
    Route::get("openapi", "/openapi.json", Public,
        "This document", run!(openapi::document))
        .replies::<serde_json::Value>(200)
        .limit(LimitClass::Documents)
        .tagged(),
    Route::get("docs", "/docs", Public,
        "This document as a page", run!(docs::page))
        .media(&["text/html"])
        .limit(LimitClass::Documents),
    Route::get("docs_asset", "/docs-assets/{file}", Public,
        "Files of the page", run!(docs::asset))
        .media(&["text/javascript", "text/css", "text/plain"])
        .limit(LimitClass::Documents),
];
