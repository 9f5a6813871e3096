//! Whether this deployment may serve production, from checks that really ran.

use serde::{Deserialize, Serialize, Serializer};

use crate::domain::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    Pass,
    Warning,
    Fail,
    /// Nothing is known; never counted as a pass.
    NotRun,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Check {
    pub status: CheckStatus,
    pub message: String,
    /// When it ran; null for one that has not.
    pub checked_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OverallStatus {
    /// Every check ran and passed.
    ProductionReady,
    /// None failed, but one or more warn or have not run.
    ReadyWithWarnings,
    /// One failed, or none has run at all.
    NotReady,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Summary {
    pub total_checks: u32,
    pub passed: u32,
    pub warnings: u32,
    pub failed: u32,
    pub not_run: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ReadinessReport {
    pub overall_status: OverallStatus,
    /// 0 to 100: `100 · (passed + 0.5 · warnings) / total_checks`; null where
    /// there are no checks.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub readiness_score: Option<f64>,
    /// By name, in the order they were given.
    #[serde(serialize_with = "as_map")]
    #[cfg_attr(
        not(target_arch = "wasm32"),
        schemars(with = "std::collections::BTreeMap<String, Check>")
    )]
    pub checks: Vec<(&'static str, Check)>,
    pub summary: Summary,
    /// What to do about the checks that did not pass.
    pub recommendations: Vec<String>,
    /// When this report was made; each check says itself when it ran.
    pub last_check: Timestamp,
}

fn as_map<S: Serializer>(checks: &[(&str, Check)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(checks.iter().map(|(name, check)| (name, check)))
}

/// Puts the checks together. Names are unique; the recommendation beside a
/// check is given only if that check did not pass.
pub fn report(
    checks: Vec<(&'static str, Check, Option<String>)>,
    now: Timestamp,
) -> ReadinessReport {
    let mut summary = Summary::default();
    let mut named = Vec::with_capacity(checks.len());
    let mut recommendations = Vec::new();
    for (name, check, recommendation) in checks {
        summary.total_checks += 1;
        match check.status {
            CheckStatus::Pass => summary.passed += 1,
            CheckStatus::Warning => summary.warnings += 1,
            CheckStatus::Fail => summary.failed += 1,
            CheckStatus::NotRun => summary.not_run += 1,
        }
        if check.status != CheckStatus::Pass {
            recommendations.extend(recommendation);
        }
        named.push((name, check));
    }
    ReadinessReport {
        overall_status: overall(summary),
        readiness_score: score(summary),
        checks: named,
        summary,
        recommendations,
        last_check: now,
    }
}

fn overall(summary: Summary) -> OverallStatus {
    if summary.failed > 0 || summary.not_run == summary.total_checks {
        OverallStatus::NotReady
    } else if summary.passed < summary.total_checks {
        OverallStatus::ReadyWithWarnings
    } else {
        OverallStatus::ProductionReady
    }
}

fn score(summary: Summary) -> Option<f64> {
    let earned = f64::from(summary.passed) + 0.5 * f64::from(summary.warnings);
    (summary.total_checks > 0)
        .then(|| crate::domain::metrics::round(100.0 * earned / f64::from(summary.total_checks)))
}

#[cfg(test)]
mod tests {
    use super::CheckStatus::{Fail, NotRun, Pass, Warning};
    use super::OverallStatus::{NotReady, ProductionReady, ReadyWithWarnings};
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 8] = ["h", "g", "f", "e", "d", "c", "b", "a"];

    fn of(statuses: &[CheckStatus]) -> ReadinessReport {
        let checks = statuses.iter().zip(NAMES).map(|(&status, name)| {
            let check = Check { status, message: String::new(), checked_at: None };
            (name, check, Some(format!("mend {name}")))
        });
        report(checks.collect(), Timestamp::from_millis(0))
    }

    #[test]
    fn overall_status_and_score_table() {
        for (statuses, overall, score) in [
            (&[][..], NotReady, None),
            (&[Pass, Pass], ProductionReady, Some(100.0)),
            (&[Pass, Warning], ReadyWithWarnings, Some(75.0)),
            (&[Pass, NotRun], ReadyWithWarnings, Some(50.0)),
            (&[Warning, NotRun], ReadyWithWarnings, Some(25.0)),
            (&[NotRun, NotRun], NotReady, Some(0.0)),
            (&[Pass, Pass, Pass, Fail], NotReady, Some(75.0)),
            (&[Warning, Fail, NotRun], NotReady, Some(16.6667)),
        ] {
            let report = of(statuses);
            assert_eq!(report.overall_status, overall, "{statuses:?}");
            assert_eq!(report.readiness_score, score, "{statuses:?}");
        }
    }

    #[test]
    fn the_json_of_a_report() {
        let checked_at = Some(Timestamp::from_millis(0));
        let json = serde_json::to_string(&report(
            vec![
                (
                    "signing_key",
                    Check { status: Pass, message: "present".into(), checked_at },
                    Some("unused".into()),
                ),
                (
                    "cron",
                    Check { status: NotRun, message: "no run yet".into(), checked_at: None },
                    Some("wait".into()),
                ),
            ],
            Timestamp::from_millis(1),
        ));
        assert_eq!(
            json.unwrap(),
            concat!(
                r#"{"overall_status":"ready_with_warnings","readiness_score":50.0,"checks":{"#,
                r#""signing_key":{"status":"pass","message":"present","checked_at":"1970-01-01T00:00:00.000Z"},"#,
                r#""cron":{"status":"not_run","message":"no run yet","checked_at":null}},"#,
                r#""summary":{"total_checks":2,"passed":1,"warnings":0,"failed":0,"not_run":1},"#,
                r#""recommendations":["wait"],"last_check":"1970-01-01T00:00:00.001Z"}"#,
            )
        );
    }

    #[test]
    fn the_schema_of_checks_is_an_object() {
        let schema = serde_json::to_value(schemars::schema_for!(ReadinessReport)).unwrap();
        assert_eq!(schema["properties"]["checks"]["type"], "object");
    }

    proptest! {
        #[test]
        fn only_all_green_is_production_ready(
            statuses in prop::collection::vec(
                prop::sample::select(&[Pass, Warning, Fail, NotRun][..]), 0..8,
            ),
        ) {
            let report = of(&statuses);
            let all_green = !statuses.is_empty() && statuses.iter().all(|status| *status == Pass);
            prop_assert_eq!(report.overall_status == ProductionReady, all_green);
            prop_assert_eq!(report.readiness_score == Some(100.0), all_green);
            let names: Vec<_> = report.checks.iter().map(|(name, _)| *name).collect();
            prop_assert_eq!(&names[..], &NAMES[..statuses.len()]);
            let s = report.summary;
            prop_assert_eq!(s.passed + s.warnings + s.failed + s.not_run, s.total_checks);
            prop_assert_eq!(report.recommendations.len(), (s.total_checks - s.passed) as usize);
        }
    }
}
