//! EVERY DURABLE OBJECT: one file each, with its commands (an enum, JSON on
//! the wire), its brain and the functions that call it.
//!
//! The brains know the platform only through `platform::Platform` and their
//! own `ObjectStorage`; they run on workerd and in process alike.

pub mod board;
mod facts;
pub mod incident;
pub mod outbox;
pub mod partnership;
pub mod rate_limit;
mod repeats;
mod tallies;
pub mod telemetry;
pub mod transfer;

pub use repeats::Idempotency;

use crate::log;
use crate::platform::fetch::OutboundRequest;
use crate::platform::{Error, ErrorKind, ObjectStorage, Platform};
use std::cell::RefCell;
use std::rc::Rc;
use transfer::{Message, Transfer};

/// A class of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectClass {
    Partnership,
    Board,
    RateLimit,
    Incident,
    Telemetry,
}

/// What `wrangler.toml` must say of a class.
pub struct ObjectKind {
    pub class: ObjectClass,
    pub binding: &'static str,
    pub class_name: &'static str,
    /// How an object of this class is named.
    pub name_rule: &'static str,
}

pub const OBJECTS: &[ObjectKind] = &[
    ObjectKind {
        class: ObjectClass::Partnership,
        binding: partnership::BINDING,
        class_name: "PartnershipObject",
        name_rule: "{tenant_id}/{partnership_id}",
    },
    ObjectKind {
        class: ObjectClass::Board,
        binding: board::BINDING,
        class_name: "BoardObject",
        name_rule: "{tenant_id}",
    },
    ObjectKind {
        class: ObjectClass::RateLimit,
        binding: rate_limit::BINDING,
        class_name: "RateLimitObject",
        name_rule: "{tenant_id}/{user or key id}, ip:{address}, account:{hash}, or {tenant_id}/@sum",
    },
    ObjectKind {
        class: ObjectClass::Incident,
        binding: incident::BINDING,
        class_name: "IncidentObject",
        name_rule: "{tenant_id}",
    },
    ObjectKind {
        class: ObjectClass::Telemetry,
        binding: telemetry::BINDING,
        class_name: "TelemetryObject",
        name_rule: "{tenant_id}",
    },
];

impl ObjectClass {
    /// Tables that only grow at their end, and may be large: a backup reads
    /// them page by page, and the class deletes nothing of them while
    /// [`transfer::is_held`].
    fn growing(self) -> &'static [&'static str] {
        match self {
            Self::Partnership => &["observations"],
            _ => &[],
        }
    }
}

/// What an object consists of: its storage, and its running code from the
/// first command of its class on.
pub struct Host {
    class: ObjectClass,
    platform: Platform,
    storage: ObjectStorage,
    object: RefCell<Option<Rc<Object>>>,
}

impl Host {
    pub fn new(class: ObjectClass, platform: Platform, storage: ObjectStorage) -> Self {
        Self { class, platform, storage, object: RefCell::new(None) }
    }

    /// Carries out one command, JSON in and JSON out.
    pub async fn handle(self: Rc<Self>, command: String) -> Result<String, Error> {
        if command.starts_with(transfer::PREFIX) {
            let message: Message = read(&command)?;
            return write(&self.transfer(message.transfer).await?);
        }
        self.object()?.handle(command).await
    }

    /// The alarm that the object set has rung.
    pub async fn alarm(self: Rc<Self>) -> Result<(), Error> {
        self.object()?.alarm().await;
        Ok(())
    }

    fn object(&self) -> Result<Rc<Object>, Error> {
        if let Some(object) = &*self.object.borrow() {
            return Ok(Rc::clone(object));
        }
        let object = Object::new(self.class, self.platform.clone(), self.storage.clone())?;
        Ok(Rc::clone(self.object.borrow_mut().insert(Rc::new(object))))
    }

    /// An object that is only asked is not made: its code, which makes the
    /// tables, does not start for that.
    async fn transfer(&self, transfer: Transfer) -> Result<transfer::Reply, Error> {
        let (platform, storage) = (&self.platform, &self.storage);
        match transfer {
            Transfer::Count => transfer::count(storage),
            Transfer::Export { set, of, name } => {
                let growing = self.class.growing();
                transfer::export(platform, storage, growing, (&set, &of, &name)).await
            }
            Transfer::Page { set, of, name, from } => {
                transfer::page(platform, storage, (&set, &of, name), from).await
            }
            Transfer::Release => transfer::release(storage),
            Transfer::Wipe => {
                // What it remembers is of before.
                *self.object.borrow_mut() = None;
                transfer::wipe(storage)
            }
            Transfer::Load { set, file } => {
                self.object()?;
                let loaded = transfer::load(platform, storage, &set, &file).await;
                *self.object.borrow_mut() = None;
                loaded
            }
            Transfer::Wake => {
                self.object()?.alarm().await;
                Ok(transfer::Reply::Done)
            }
        }
    }
}

/// The running code of one object.
pub enum Object {
    Partnership(partnership::PartnershipObject),
    Board(board::BoardObject),
    RateLimit(Box<rate_limit::RateLimitObject>),
    Incident(incident::IncidentObject),
    Telemetry(telemetry::TelemetryObject),
}

impl Object {
    pub fn new(
        class: ObjectClass,
        platform: Platform,
        storage: ObjectStorage,
    ) -> Result<Self, Error> {
        Ok(match class {
            ObjectClass::Partnership => {
                Self::Partnership(partnership::PartnershipObject::new(platform, storage)?)
            }
            ObjectClass::Board => Self::Board(board::BoardObject::new(storage)?),
            ObjectClass::RateLimit => {
                Self::RateLimit(Box::new(rate_limit::RateLimitObject::new(platform, storage)))
            }
            ObjectClass::Incident => {
                Self::Incident(incident::IncidentObject::new(platform, storage)?)
            }
            ObjectClass::Telemetry => {
                Self::Telemetry(telemetry::TelemetryObject::new(platform, storage)?)
            }
        })
    }

    /// Carries out one command, JSON in and JSON out.
    pub async fn handle(self: Rc<Self>, command: String) -> Result<String, Error> {
        match &*self {
            Self::Partnership(object) => {
                let reply = object.handle(read(&command)?).await?;
                write(&reply)
            }
            Self::Board(object) => object.handle(read(&command)?),
            Self::RateLimit(object) => write(&object.handle(read(&command)?).await?),
            Self::Incident(object) => write(&object.handle(read(&command)?).await?),
            Self::Telemetry(object) => write(&object.handle(read(&command)?)?),
        }
    }

    /// The alarm that the object set has rung.
    pub async fn alarm(self: Rc<Self>) {
        match &*self {
            Self::RateLimit(object) => object.alarm().await,
            Self::Incident(object) => object.alarm().await,
            Self::Partnership(_) | Self::Board(_) | Self::Telemetry(_) => {}
        }
    }
}

/// The call as a span of its own in this trace (W3C Trace Context), for whoever
/// is called and looks for it. Without one it is sent as it is.
fn traced(
    platform: &Platform,
    mut request: OutboundRequest,
    trace_id: Option<&str>,
) -> OutboundRequest {
    let mut span_id = [0_u8; 8];
    let has_span = platform.random.fill(&mut span_id).is_ok();
    if let Some(trace_id) = trace_id.filter(|_| has_span) {
        let parent = format!("00-{trace_id}-{}-01", log::hex(&span_id));
        request.headers.push(("traceparent", parent));
    }
    request
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Misuse, format!("unreadable object message: {error}"))
}

/// An object answered, but not to what it was asked.
fn unexpected(what: &str) -> Error {
    Error::new(ErrorKind::Misuse, format!("unexpected reply of an object: {what}"))
}

fn write(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Misuse, format!("unwritable object message: {error}"))
}
