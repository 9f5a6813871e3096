//! What is wrong with one field of an input, in words for its sender.

use serde::{Deserialize, Deserializer, de};

/// Text that a person reads: no control characters, and not only blanks.
/// Spelled out, as readers of regular expressions differ about `\\s`.
pub const PRINTABLE: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*\
     [^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]\
     [^\\u0000-\\u001f\\u007f-\\u009f]*$";

/// Text without control characters.
pub const NO_CONTROLS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

/// # Errors
/// Text that no person could read, or that is too long.
pub fn check_text(text: &str, max_chars: usize) -> Result<(), String> {
    let chars = text.chars().count();
    if text.trim().is_empty() || chars > max_chars || text.chars().any(char::is_control) {
        return Err(format!("expected 1 to {max_chars} printable characters"));
    }
    Ok(())
}

/// A whole number however it is written: JSON has one kind of number, and
/// some clients write every one as `60.0`. For `deserialize_with`.
pub fn whole<'de, T: TryFrom<i64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    /// Up to here every whole number is one of its own.
    const MAX_SAFE: f64 = 9_007_199_254_740_991.0;
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    let is_whole = number.fract() == 0.0 && number.abs() <= MAX_SAFE;
    let fits = is_whole.then(|| T::try_from(number as i64).ok()).flatten();
    fits.map(Some).ok_or_else(|| de::Error::custom("expected a whole number in its range"))
}

/// As [`whole`], of a field that must be there.
pub fn whole_required<'de, T: TryFrom<i64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    whole(deserializer)?.ok_or_else(|| de::Error::custom("expected a whole number, got null"))
}

/// One refused field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// RFC 6901 JSON Pointer to the field, without the `#` of its fragment
    /// form, relative to the document that was validated.
    pub pointer: String,
    /// What the field must be. Never repeats the refused value: it is
    /// somebody's text and may be secret or huge.
    pub detail: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}
