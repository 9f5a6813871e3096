//! What is wrong with one field of an input, in words for its sender.

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
