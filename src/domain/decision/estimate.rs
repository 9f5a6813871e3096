//! A number that is known, or a range of what it may be.

use super::chance::Chance;
use crate::domain::validation::FieldError;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::ops::RangeInclusive;

const EXPECTED: &str = "a number or {low, mode, high}";

/// A number, or the least, the most likely and the most that it may be.
/// Ranges are taken as triangular distributions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Estimate {
    Known(f64),
    Range(Range),
}

/// `low <= mode <= high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    pub low: f64,
    /// The most likely value.
    pub mode: f64,
    pub high: f64,
}

impl From<f64> for Estimate {
    fn from(value: f64) -> Self {
        Self::Known(value)
    }
}

impl Estimate {
    /// The most likely value.
    pub fn mode(self) -> f64 {
        match self {
            Self::Known(value) => value,
            Self::Range(range) => range.mode,
        }
    }

    pub fn low(self) -> f64 {
        match self {
            Self::Known(value) => value,
            Self::Range(range) => range.low,
        }
    }

    pub fn high(self) -> f64 {
        match self {
            Self::Known(value) => value,
            Self::Range(range) => range.high,
        }
    }

    /// Whether it leaves anything open: a range of one point is a number.
    pub fn is_range(self) -> bool {
        matches!(self, Self::Range(range) if range.low < range.high)
    }

    /// One draw. It takes one number of the stream whatever the estimate is,
    /// so that what is drawn after it stays the same when a range becomes
    /// known.
    pub fn draw(self, chance: &mut Chance) -> f64 {
        let drawn = chance.triangular(self.low(), self.mode(), self.high());
        if self.is_range() { drawn } else { self.mode() }
    }

    /// Adds what is wrong: a value out of `allowed` (`detail` says so), or a
    /// range out of order. `pointer` is the field's.
    pub fn check(
        self,
        pointer: &str,
        allowed: &RangeInclusive<f64>,
        detail: &str,
        errors: &mut Vec<FieldError>,
    ) {
        // A range of floats holds neither NaN nor an infinity.
        let is_allowed = |value: f64| allowed.contains(&value);
        let Range { low, mode, high } = match self {
            Self::Known(value) => {
                if !is_allowed(value) {
                    errors.push(FieldError::new(pointer, detail));
                }
                return;
            }
            Self::Range(range) => range,
        };
        let before = errors.len();
        for (name, value) in [("low", low), ("mode", mode), ("high", high)] {
            if !is_allowed(value) {
                errors.push(FieldError::new(format!("{pointer}/{name}"), detail));
            }
        }
        if errors.len() > before {
            return;
        }
        if mode < low {
            errors.push(FieldError::new(format!("{pointer}/mode"), "must be at least low"));
        }
        if high < mode {
            errors.push(FieldError::new(format!("{pointer}/high"), "must be at least mode"));
        }
    }
}

/// By hand: serde's untagged enums say only that nothing matched, and lose
/// the place.
impl<'de> Deserialize<'de> for Estimate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EstimateVisitor)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Low,
    Mode,
    High,
}

struct EstimateVisitor;

impl<'de> Visitor<'de> for EstimateVisitor {
    type Value = Estimate;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Estimate, E> {
        Ok(Estimate::Known(value))
    }

    // JSON has one kind of number, readers have three.
    fn visit_i64<E: Error>(self, value: i64) -> Result<Estimate, E> {
        Ok(Estimate::Known(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Estimate, E> {
        Ok(Estimate::Known(value as f64))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Estimate, M::Error> {
        let (mut low, mut mode, mut high) = (None, None, None);
        while let Some(field) = map.next_key::<Field>()? {
            let (name, place) = match field {
                Field::Low => ("low", &mut low),
                Field::Mode => ("mode", &mut mode),
                Field::High => ("high", &mut high),
            };
            if place.is_some() {
                return Err(M::Error::duplicate_field(name));
            }
            *place = Some(map.next_value::<f64>()?);
        }
        let (Some(low), Some(mode), Some(high)) = (low, mode, high) else {
            return Err(M::Error::custom(format_args!("expected {EXPECTED}")));
        };
        Ok(Estimate::Range(Range { low, mode, high }))
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl schemars::JsonSchema for Estimate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Estimate".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "number" },
                {
                    "type": "object",
                    "description": "low <= mode <= high; mode is the most likely value.",
                    "properties": {
                        "low": { "type": "number" },
                        "mode": { "type": "number" },
                        "high": { "type": "number" }
                    },
                    "required": ["low", "mode", "high"],
                    "additionalProperties": false
                }
            ]
        })
    }
    // Fields differ in their limits.
    fn inline_schema() -> bool {
        true
    }
}

/// For the schema of a field: limits of the number, and of each number of the
/// range. `least` is `minimum` or `exclusiveMinimum`.
#[cfg(not(target_arch = "wasm32"))]
pub fn limits(least: &'static str, low: f64, high: f64) -> impl schemars::transform::Transform {
    schemars::transform::RecursiveTransform(move |schema: &mut schemars::Schema| {
        if schema.get("type").is_some_and(|kind| kind == "number") {
            schema.insert(least.to_owned(), low.into());
            schema.insert("maximum".to_owned(), high.into());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::chance::Purpose;
    use super::*;

    fn read(json: &str) -> Result<Estimate, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn range(low: f64, mode: f64, high: f64) -> Estimate {
        Estimate::Range(Range { low, mode, high })
    }

    #[test]
    fn a_number_or_a_range() {
        for (json, estimate) in [
            ("2", Estimate::Known(2.0)),
            ("-2", Estimate::Known(-2.0)),
            ("2.5", Estimate::Known(2.5)),
            ("18446744073709551615", Estimate::Known(18_446_744_073_709_551_615.0)),
            (r#"{"high": 3, "low": 1.5, "mode": 2}"#, range(1.5, 2.0, 3.0)),
        ] {
            assert_eq!(read(json), Ok(estimate), "{json}");
            let written = serde_json::to_string(&estimate).unwrap();
            assert_eq!(read(&written), Ok(estimate), "{written}");
        }
        assert_eq!(
            serde_json::to_string(&range(1.0, 2.0, 3.0)).unwrap(),
            r#"{"low":1.0,"mode":2.0,"high":3.0}"#
        );
    }

    #[test]
    fn what_is_neither_is_refused_in_clear_words() {
        let expected = "expected a number or {low, mode, high}";
        for json in [
            r#""2""#,
            "true",
            "null",
            "[]",
            "[1, 2, 3]",
            "{}",
            r#"{"low": 1, "high": 2}"#,
            r#"{"mode": 2}"#,
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        let whole = r#""low": 1, "mode": 2, "high": 3"#;
        for (more, says) in [
            (r#""mid": 2"#, "unknown field `mid`"),
            (r#""low": 1"#, "duplicate field `low`"),
            (r#""likely": null"#, "unknown field `likely`"),
        ] {
            let error = read(&format!("{{{whole}, {more}}}")).unwrap_err();
            assert!(error.contains(says), "{more}: {error}");
        }
        let nested = r#"{"low": {"low": 1, "mode": 1, "high": 1}, "mode": 2, "high": 3}"#;
        assert!(read(nested).is_err());
        assert!(read(r#"{"low": null, "mode": 2, "high": 3}"#).is_err());
    }

    #[test]
    fn it_is_checked_with_pointers() {
        let pointers = |estimate: Estimate| -> Vec<String> {
            let mut errors = Vec::new();
            estimate.check("/x", &(0.0..=10.0), "must be a number from 0 to 10", &mut errors);
            errors.into_iter().map(|error| error.pointer).collect()
        };
        for good in [3.0.into(), range(0.0, 5.0, 10.0), range(4.0, 4.0, 4.0)] {
            assert!(pointers(good).is_empty(), "{good:?}");
        }
        for (bad, expected) in [
            (Estimate::Known(11.0), &["/x"][..]),
            (Estimate::Known(f64::NAN), &["/x"]),
            (range(-1.0, 5.0, 11.0), &["/x/low", "/x/high"]),
            (range(1.0, f64::NAN, 9.0), &["/x/mode"]),
            (range(5.0, 4.0, 9.0), &["/x/mode"]),
            (range(1.0, 4.0, 3.0), &["/x/high"]),
            (range(9.0, 4.0, 3.0), &["/x/mode", "/x/high"]),
        ] {
            assert_eq!(pointers(bad), expected, "{bad:?}");
        }
    }

    #[test]
    fn every_draw_takes_one_number_of_the_stream() {
        let after = |estimate: Estimate| {
            let mut chance = Chance::new(&[5; 32], Purpose::Estimates);
            let drawn = estimate.draw(&mut chance);
            assert!((estimate.low()..=estimate.high()).contains(&drawn));
            chance.uniform()
        };
        let known = after(2.0.into());
        assert_eq!(after(range(1.0, 2.0, 3.0)), known);
        assert_eq!(after(range(2.0, 2.0, 2.0)), known);
    }

    #[test]
    fn the_schema_has_the_limits_of_its_field() {
        #[derive(schemars::JsonSchema)]
        #[allow(dead_code)]
        struct Sample {
            #[schemars(transform = limits("exclusiveMinimum", 0.0, 10.0))]
            days: Option<Estimate>,
        }
        let schema = schemars::schema_for!(Sample).to_value();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let allows =
            |value: serde_json::Value| validator.is_valid(&serde_json::json!({ "days": value }));
        assert!(validator.is_valid(&serde_json::json!({})));
        let whole = serde_json::json!({ "low": 1, "mode": 2, "high": 10 });
        for good in [serde_json::json!(null), 10.into(), whole.clone()] {
            assert!(allows(good.clone()), "{good}: {schema}");
        }
        let mut bad = vec![serde_json::json!(0), 10.1.into(), "1".into(), serde_json::json!([])];
        for (name, value) in [("low", 0.into()), ("high", 10.5.into()), ("more", 1.into())] {
            let mut range = whole.clone();
            range[name] = value;
            bad.push(range);
        }
        bad.push(serde_json::json!({ "low": 1, "mode": 2 }));
        for bad in bad {
            assert!(!allows(bad.clone()), "{bad}: {schema}");
        }
    }
}
