//! The whole application on the host: the same router, jobs and objects over
//! `platform::native`. Tests and generators drive it.

use crate::http::{App, Reply, Request};
use crate::objects::{Host, OBJECTS};
use crate::platform::native::ObjectBody;
use crate::platform::{Error, ErrorKind, ObjectStorage, Platform};
use crate::routes::ROUTES;
use crate::{domain::time::Timestamp, jobs, store};
use futures::executor::block_on;
use futures::future::LocalBoxFuture;
use std::rc::Rc;

/// A world of its own: database, objects, clock and secrets.
pub struct World {
    pub app: Rc<App>,
    pub platform: Platform,
}

/// A development key and first admin that the whole world may know: they
/// protect nothing but worlds in memory.
pub const SIGNING_KEY: &str = "dev:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
/// For the secrets of channels, likewise known to the whole world.
pub const CHANNEL_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const ADMIN_USERNAME: &str = "admin";
pub const ADMIN_PASSWORD: &str = "correct horse battery staple";

impl World {
    /// A fresh world, its clock standing at `now`.
    pub fn new(now: Timestamp) -> Result<Self, Error> {
        let platform = Platform::new(now.millis(), store::MIGRATIONS)?;
        platform.vars.set("ENVIRONMENT", "development");
        platform.vars.set("SIGNING_KEY", SIGNING_KEY);
        platform.vars.set("CHANNEL_KEY", CHANNEL_KEY);
        platform.vars.set("BOOTSTRAP_ADMIN_USERNAME", ADMIN_USERNAME);
        platform.vars.set("BOOTSTRAP_ADMIN_PASSWORD", ADMIN_PASSWORD);
        install_objects(&platform);
        Ok(Self { app: App::new(platform.clone(), ROUTES), platform })
    }

    /// A new isolate over the same world: configuration is read again and
    /// every cache is empty.
    pub fn restart(&mut self) {
        self.app = App::new(self.platform.clone(), ROUTES);
    }

    pub fn send(&self, request: Request) -> Reply {
        block_on(self.app.handle(request))
    }

    /// Hands over what the isolate has counted, as it does 2 s after a request.
    pub fn flush(&self) {
        if self.app.telemetry_due() {
            block_on(self.app.flush_telemetry());
        }
    }

    /// Rings the alarms of objects that are due; how many there were.
    pub fn ring(&self) -> usize {
        let rung = block_on(self.platform.objects.ring(self.platform.clock.now_ms()));
        rung.unwrap_or_default()
    }

    /// A cron event for the minute of `scheduled_at`.
    pub fn scheduled(&self, cron: &str, scheduled_at: Timestamp) {
        block_on(jobs::run(&self.platform, cron, scheduled_at.millis()));
    }
}

struct Body(Rc<Host>);

impl ObjectBody for Body {
    fn handle(self: Rc<Self>, command: String) -> LocalBoxFuture<'static, Result<String, Error>> {
        Box::pin(Rc::clone(&self.0).handle(command))
    }

    fn alarm(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        let alarm = Rc::clone(&self.0).alarm();
        // Nobody is told, as on the platform.
        Box::pin(async move { drop(alarm.await) })
    }
}

fn install_objects(platform: &Platform) {
    let world = platform.clone();
    platform.objects.install(Rc::new(move |binding: &str, storage: ObjectStorage| {
        let kind = OBJECTS.iter().find(|kind| kind.binding == binding);
        let kind = kind.ok_or_else(|| Error::new(ErrorKind::Misuse, "unknown object binding"))?;
        let host = Host::new(kind.class, world.clone(), storage);
        Ok(Rc::new(Body(Rc::new(host))) as Rc<dyn ObjectBody>)
    }));
}
