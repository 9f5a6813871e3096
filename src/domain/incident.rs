//! Incidents: one per cause, from the first alert to the last, and what is
//! told of them to people.

pub use super::alert::Severity;
use super::alert::{Family, OpenAlert};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What happened to an incident that people are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    /// It opened, or became more severe.
    Triggered,
    Acknowledged,
    Resolved,
    /// Not an incident: somebody tries a channel.
    Test,
}

/// One thing to be told, to every channel that wants it. Written down in the
/// transaction that changes the incident, so neither is without the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// `ntf_…`: the same however often it is sent.
    pub id: String,
    pub kind: NotificationKind,
    /// `inc_…`: what receivers recognise the incident by.
    pub incident_id: String,
    pub severity: Severity,
    /// When it happened.
    pub at: Timestamp,
    /// When the incident opened.
    pub opened_at: Timestamp,
    /// `None`: the service itself.
    pub partnership: Option<String>,
    /// Rule family, such as `slo_burn`.
    pub rule: String,
    /// One line for people.
    pub title: String,
    /// What was measured, with its figures.
    pub detail: String,
    /// Of the tick or request that it comes of: every attempt to deliver it is
    /// a call in this trace. `None` in what the version before wrote down.
    #[serde(default)]
    pub trace_id: Option<String>,
}

/// The source of alerts that are about the service; no partnership is called so.
pub const SERVICE: &str = "@service";

/// Why there is an incident: of one partnership (or the service) and one rule
/// family there is one at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// `None`: the service itself.
    pub partnership: Option<String>,
    pub family: Family,
}

impl Cause {
    /// What an alert of this family from this partnership counts for.
    pub fn of(source: &str, family: Family) -> Self {
        let partnership = (!family.is_of_the_service()).then(|| source.to_owned());
        Self { partnership, family }
    }

    /// As text that no other cause has.
    pub fn key(&self) -> String {
        format!("{}/{}", self.partnership.as_deref().unwrap_or(SERVICE), self.family.name())
    }
}

/// An alert and who reported it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SourcedAlert {
    /// Id of a partnership, or `@service`.
    pub source: String,
    #[serde(flatten)]
    pub alert: OpenAlert,
}

/// Who did something, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ByWhom {
    pub at: Timestamp,
    /// A user's id, or `system`.
    pub by: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    Open,
    Acknowledged,
    Resolved,
}

/// From the first alert of a cause to the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: String,
    pub cause: Cause,
    /// The highest that it has had.
    pub severity: Severity,
    pub title: String,
    pub detail: String,
    /// When the trouble began, as far as evaluations saw it.
    pub began_at: Timestamp,
    pub opened_at: Timestamp,
    pub acknowledged: Option<ByWhom>,
    pub resolved: Option<ByWhom>,
    /// The alerts behind it, as last reported.
    pub alerts: Vec<SourcedAlert>,
}

/// What a report did to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// More severe than people were told.
    Escalated,
    /// Something in it is new, and nobody need be told.
    Updated,
    Nothing,
}

impl Incident {
    /// Opens one for these alerts, of which there is at least one.
    pub fn open(id: String, cause: Cause, alerts: Vec<SourcedAlert>, now: Timestamp) -> Self {
        let mut incident = Self {
            id,
            cause,
            severity: Severity::Info,
            title: String::new(),
            detail: String::new(),
            began_at: now,
            opened_at: now,
            acknowledged: None,
            resolved: None,
            alerts: Vec::new(),
        };
        let began = alerts.iter().map(|alert| alert.alert.began_at).min();
        incident.began_at = began.unwrap_or(now).min(now);
        incident.report(alerts);
        incident
    }

    /// Takes the alerts as they are now; at least one.
    pub fn report(&mut self, mut alerts: Vec<SourcedAlert>) -> Change {
        // The worst first, then in an order that does not change by itself.
        let rank = |a: &SourcedAlert| {
            (std::cmp::Reverse(a.alert.severity), a.source.clone(), a.alert.subject.clone())
        };
        alerts.sort_by_key(rank);
        let Some(worst) = alerts.first() else { return Change::Nothing };
        let others = alerts.len() - 1;
        let title = match others {
            0 => worst.alert.title.clone(),
            _ => format!("{} (and {others} more)", worst.alert.title),
        };
        let escalated = worst.alert.severity > self.severity;
        let updated = title != self.title || alerts.len() != self.alerts.len();
        self.severity = self.severity.max(worst.alert.severity);
        self.title = title;
        self.detail.clone_from(&worst.alert.detail);
        self.alerts = alerts;
        match (escalated, updated) {
            (true, _) => Change::Escalated,
            (false, true) => Change::Updated,
            (false, false) => Change::Nothing,
        }
    }

    pub fn state(&self) -> IncidentState {
        match (&self.resolved, &self.acknowledged) {
            (Some(_), _) => IncidentState::Resolved,
            (None, Some(_)) => IncidentState::Acknowledged,
            (None, None) => IncidentState::Open,
        }
    }

    pub fn is_flapping(&self) -> bool {
        self.resolved.is_none() && self.alerts.iter().any(|alert| alert.alert.flapping)
    }

    /// What people are told of it now.
    pub fn notification(
        &self,
        id: String,
        kind: NotificationKind,
        at: Timestamp,
        trace_id: String,
    ) -> Notification {
        Notification {
            id,
            kind,
            incident_id: self.id.clone(),
            severity: self.severity,
            at,
            opened_at: self.opened_at,
            partnership: self.cause.partnership.clone(),
            rule: self.cause.family.name().to_owned(),
            title: self.title.clone(),
            detail: self.detail.clone(),
            trace_id: Some(trace_id),
        }
    }
}

/// What happened to an incident, for people to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TimelineKind {
    Opened,
    Escalated,
    Updated,
    Acknowledged,
    Noted,
    Resolved,
}

impl TimelineKind {
    /// Its event in the activity log; updates are in the timeline only.
    pub const fn event(self) -> Option<&'static str> {
        match self {
            Self::Opened => Some("incident.opened"),
            Self::Escalated => Some("incident.escalated"),
            Self::Acknowledged => Some("incident.acknowledged"),
            Self::Noted => Some("incident.noted"),
            Self::Resolved => Some("incident.resolved"),
            Self::Updated => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct TimelineEntry {
    pub at: Timestamp,
    pub kind: TimelineKind,
    /// A user's id, or `system`.
    pub actor: String,
    pub text: String,
}

/// An open incident, for those who look at everything at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OpenIncident {
    pub id: String,
    /// Null: the service itself.
    pub partnership: Option<String>,
    pub rule: Family,
    pub severity: Severity,
    pub title: String,
    pub opened_at: Timestamp,
    pub acknowledged: bool,
    pub flapping: bool,
}

impl From<&Incident> for OpenIncident {
    fn from(incident: &Incident) -> Self {
        Self {
            id: incident.id.clone(),
            partnership: incident.cause.partnership.clone(),
            rule: incident.cause.family,
            severity: incident.severity,
            title: incident.title.clone(),
            opened_at: incident.opened_at,
            acknowledged: incident.acknowledged.is_some(),
            flapping: incident.is_flapping(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(source: &str, subject: &str, severity: Severity) -> SourcedAlert {
        let at = Timestamp::from_millis(1_800_000_000_000);
        SourcedAlert {
            source: source.to_owned(),
            alert: OpenAlert {
                family: Family::KpiBelowTarget,
                subject: subject.to_owned(),
                severity,
                title: format!("{source}: {subject}"),
                detail: "80 of 100".to_owned(),
                opened_at: at,
                began_at: at.plus_ms(-60_000),
                flapping: false,
            },
        }
    }

    #[test]
    fn only_what_is_worse_is_told_again() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let cause = Cause::of("acme", Family::KpiBelowTarget);
        let first = vec![alert("acme", "speed", Severity::Warning)];
        let mut incident = Incident::open("inc_1".to_owned(), cause, first.clone(), now);
        assert_eq!(incident.began_at, now.plus_ms(-60_000));
        assert_eq!(incident.report(first.clone()), Change::Nothing);
        let mut two = first.clone();
        two.push(alert("acme", "delay", Severity::Info));
        assert_eq!(incident.report(two.clone()), Change::Updated);
        assert_eq!(incident.title, "acme: speed (and 1 more)");
        two.push(alert("acme", "cost", Severity::Critical));
        assert_eq!(incident.report(two), Change::Escalated);
        assert_eq!(incident.report(first), Change::Updated);
        assert_eq!(incident.severity, Severity::Critical, "as people were told");
    }

    #[test]
    fn causes_of_the_service_have_one_incident_whoever_reports_them() {
        assert_eq!(Cause::of("a", Family::Egress), Cause::of("b", Family::Egress));
        assert_eq!(Cause::of("a", Family::Egress).key(), "@service/egress");
        assert_ne!(Cause::of("a", Family::DataAbsent), Cause::of("b", Family::DataAbsent));
    }
}
