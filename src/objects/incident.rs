//! `IncidentObject`, one per tenant: its incidents, and the outbox that tells
//! people of them. Both are in one object so that a change of an incident and
//! the notification of it are one transaction.

use super::{read, write};
use crate::platform::{Error, ObjectStorage, Platform};
use serde::{Deserialize, Serialize};

pub const BINDING: &str = "INCIDENT";

/// (Externally tagged: serde would buffer every message of an internally
/// tagged enum before reading it.)
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Is anybody there?
    Ping,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
}

pub struct IncidentObject {
    _platform: Platform,
    _storage: ObjectStorage,
}

impl IncidentObject {
    pub fn new(platform: Platform, storage: ObjectStorage) -> Result<Self, Error> {
        Ok(Self { _platform: platform, _storage: storage })
    }

    pub async fn handle(&self, command: Command) -> Result<Reply, Error> {
        match command {
            Command::Ping => Ok(Reply::Done),
        }
    }

    /// Delivers what is due and looks after what nobody else watches.
    pub async fn alarm(&self) {}
}

/// The object of a tenant is named after it.
pub async fn call(platform: &Platform, tenant_id: &str, command: &Command) -> Result<Reply, Error> {
    read(&platform.objects.call(BINDING, tenant_id, write(command)?).await?)
}
