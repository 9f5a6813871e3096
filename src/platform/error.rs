//! Failures of the outside world. The message is for the log alone.

/// What went wrong, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No answer within the deadline: it may have happened or not.
    Timeout,
    /// The service said no, or could not be reached; a later try may succeed.
    Unavailable,
    /// A UNIQUE, CHECK, NOT NULL or FOREIGN KEY constraint refused the write.
    Constraint,
    /// The request breaks a rule of the platform: a defect of ours.
    Misuse,
}

/// What SQLite and D1 say where the statement itself is wrong: repeating it
/// cannot help.
const DEFECTS: &[&str] = &[
    "syntax error",
    "no such",
    "too many",
    "parameter",
    "cannot store",
    "SQLITE_TOOBIG",
    "not authorized",
    "To execute a transaction",
];

/// A failure with its private cause. Never shown to a client.
#[derive(Clone, Debug)]
pub struct Error {
    pub kind: ErrorKind,
    message: String,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Sorts a message of SQLite or D1 into a kind; both name a refused
    /// constraint in the text and nowhere else.
    pub fn from_sql(message: impl Into<String>) -> Self {
        let message = message.into();
        let kind = if message.contains("constraint failed") {
            ErrorKind::Constraint
        } else if DEFECTS.iter().any(|defect| message.contains(defect)) {
            ErrorKind::Misuse
        } else {
            ErrorKind::Unavailable
        };
        Self { kind, message }
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// True where the refused constraint is the one of this name or column.
    pub fn is_constraint(&self, name: &str) -> bool {
        self.kind == ErrorKind::Constraint && self.message.contains(name)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Error {}
