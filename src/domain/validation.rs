//! What is wrong with one field of an input, in words for its sender.

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
