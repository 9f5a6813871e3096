//! A world per test, and requests that read like prose.

use crate::canary::Canary;
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::auth::token::Grant;
use devskyy_orchestration::domain::id::IdKind;
use devskyy_orchestration::domain::time::{MINUTE_MS, Timestamp};
use devskyy_orchestration::entry::native::World;
use devskyy_orchestration::http::{Body, Request};
use devskyy_orchestration::objects::board;
use devskyy_orchestration::platform::native::{Fault, Script};
use devskyy_orchestration::platform::sql::{Row, Statement};
use devskyy_orchestration::platform::{Headers, Platform, Vars};
use devskyy_orchestration::store::{TABLES, tenants, tenants::DEFAULT_TENANT_ID};
use futures::executor::block_on;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Where every test's clock stands at first.
pub const NOW: &str = "2026-01-31T12:00:00Z";
pub const OTHER_TENANT: &str = "ten_other";
pub const CURSOR_PROBE: &str = "https://api2.cursor.sh/";
pub const API: &str = "/api/v1/orchestration";

pub struct TestApp {
    pub world: World,
    pub platform: Platform,
    canary: Canary,
}

/// No test passes whose application said what none may say.
impl Drop for TestApp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let secrets = ["SIGNING_KEY", "SIGNING_KEY_2", "CHANNEL_KEY", "BOOTSTRAP_ADMIN_PASSWORD"];
        let known = secrets.map(|name| self.platform.vars.get(name));
        let found = self.canary.found(&known, &self.platform.log.lines());
        assert!(found.is_empty(), "{found:#?}");
    }
}

impl TestApp {
    /// Secrets are set; nothing has happened yet. Without rate limits: the
    /// clock stands still, so every test would have one minute's requests.
    pub fn new() -> Self {
        let world = World::new(Timestamp::parse(NOW).unwrap()).unwrap();
        let mut app = Self { platform: world.platform.clone(), world, canary: Canary::default() };
        app.platform.vars.set("RATE_LIMITING", "off");
        app.world.restart();
        app
    }

    /// As [`TestApp::seeded`], with rate limits as in production.
    pub fn limited() -> Self {
        let mut app = Self::seeded();
        app.platform.vars.remove("RATE_LIMITING");
        app.world.restart();
        app
    }

    /// The default tenant and its first admin exist and the first tick has
    /// found every partner up, in 120 ms.
    pub fn measured() -> Self {
        let app = Self::new();
        app.all_partners(Script::Status(401, 120.0));
        app.tick();
        app
    }

    /// As [`TestApp::measured`], in little time: without a user, whose password
    /// would have to be hashed.
    pub fn seeded() -> Self {
        let app = Self::new();
        app.add_tenant(DEFAULT_TENANT_ID);
        app.all_partners(Script::Status(401, 120.0));
        app.tick();
        app
    }

    /// The default tenant, and no tick: nobody is told that it is late.
    pub fn unticked() -> Self {
        let app = Self::new();
        app.add_tenant(DEFAULT_TENANT_ID);
        app
    }

    pub fn with_vars(change: impl FnOnce(&Vars)) -> Self {
        let mut app = Self::new();
        change(&app.platform.vars);
        app.world.restart();
        app
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.platform.clock.now_ms())
    }

    /// Runs the minute tick for the clock's minute.
    pub fn tick(&self) {
        self.world.scheduled("* * * * *", self.now());
    }

    pub fn next_minute(&self) {
        self.platform.clock.advance_ms(MINUTE_MS);
        self.tick();
        if self.now().millis() / MINUTE_MS % 60 == 37 {
            self.world.scheduled("37 * * * *", self.now());
        }
    }

    /// Every seeded probe answers like this.
    pub fn all_partners(&self, script: Script) {
        for seed in devskyy_orchestration::domain::seed::PARTNERSHIPS {
            for probe in seed.probes {
                self.platform.outbound.script(probe.url, script.clone());
            }
        }
    }

    /// The control targets answer.
    pub fn outside_reachable(&self) {
        self.platform.outbound.script("https://example.com/", Script::Status(200, 20.0));
    }

    /// A token of the default tenant, made by production code.
    pub fn token(&self, role: Role) -> String {
        self.token_of(DEFAULT_TENANT_ID, role)
    }

    pub fn token_of(&self, tenant_id: &str, role: Role) -> String {
        let now = self.now();
        let user_id = self.user_id();
        let grant = Grant { tenant_id, user_id: &user_id, role };
        self.world.app.verifier.keys().unwrap().sign(&grant, now, &[1; 10])
    }

    /// Whom the tokens are for.
    pub fn user_id(&self) -> String {
        IdKind::User.make(Timestamp::parse(NOW).unwrap(), &[7; 10])
    }

    pub fn admin(&self) -> String {
        self.token(Role::Admin)
    }

    /// A second tenant with seeds of its own.
    pub fn add_other_tenant(&self) {
        self.add_tenant(OTHER_TENANT);
        self.tick();
    }

    fn add_tenant(&self, tenant_id: &str) {
        let random = &self.platform.random;
        let statements = tenants::create(random, tenant_id, "Name", "system", self.now()).unwrap();
        block_on(self.platform.database.batch(statements)).unwrap();
    }

    /// The user of [`TestApp::token`] as a row, with a password that is none.
    pub fn add_own_user(&self, role: Role) {
        let user_id = self.user_id();
        self.run(format!(
            "INSERT INTO users (id, tenant_id, username, password_hash, password_source, role, \
             created_at, created_by, updated_at) VALUES ('{user_id}', '{DEFAULT_TENANT_ID}', \
             'own', 'x', 'admin', '{}', 0, 'system', 0)",
            role.name()
        ));
    }

    /// A decision of the default tenant from before there were receipts.
    pub fn add_decision(&self) {
        self.run(
            "INSERT INTO decisions (id, tenant_id, kind, decision, inputs, reply, author_id, \
             created_at) VALUES ('dec_target', 'ten_default', 'appraisal', 'INSUFFICIENT_DATA', \
             '{}', '{}', 'system', 0)"
                .to_owned(),
        );
    }

    /// A channel of the default tenant whose secret nobody can open.
    pub fn add_channel(&self) {
        self.run(
            "INSERT INTO channels (tenant_id, id, kind, name, min_severity, enabled, host, sealed, \
             revision, created_at, created_by, updated_at) VALUES ('ten_default', 'chn_target', \
             'slack', 'target', 'critical', 1, 'example.com', 'x', 1, 0, 'system', 0)"
                .to_owned(),
        );
    }

    pub fn run(&self, sql: String) {
        block_on(self.platform.database.batch(vec![Statement::new(sql)])).unwrap();
    }

    /// D1 answers none of the next calls. (A read is tried twice.)
    pub fn lose_database(&self, calls: usize) {
        for _ in 0..calls {
            self.platform.database.inject("", Fault::Lost);
        }
    }

    pub fn rows(&self, sql: &'static str) -> Vec<Row> {
        block_on(self.platform.database.query(Statement::new(sql))).unwrap()
    }

    pub fn count(&self, sql: &'static str) -> u64 {
        self.rows(sql)[0].get("n").unwrap()
    }

    pub fn get(&self, path: &str) -> TestRequest<'_> {
        self.request("GET", path)
    }

    pub fn post(&self, path: &str) -> TestRequest<'_> {
        self.request("POST", path)
    }

    pub fn put(&self, path: &str) -> TestRequest<'_> {
        self.request("PUT", path)
    }

    pub fn patch(&self, path: &str) -> TestRequest<'_> {
        self.request("PATCH", path)
    }

    pub fn delete(&self, path: &str) -> TestRequest<'_> {
        self.request("DELETE", path)
    }

    pub fn request(&self, method: &str, path: &str) -> TestRequest<'_> {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        let request = Request {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query,
            headers: Headers::default(),
            body: Body::Whole(Default::default()),
        };
        TestRequest { app: self, request }
    }

    /// GET with an admin's token, 200 expected.
    #[track_caller]
    pub fn read(&self, path: &str) -> Value {
        let reply = self.get(path).bearer(&self.admin()).send();
        assert_eq!(reply.status, 200, "{path}: {}", reply.json);
        reply.json
    }
}

pub struct TestRequest<'a> {
    app: &'a TestApp,
    pub request: Request,
}

impl TestRequest<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request.headers.set(name, value);
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn json(self, body: Value) -> Self {
        self.body("application/json", &body.to_string())
    }

    pub fn body(self, content_type: &str, text: &str) -> Self {
        self.bytes(content_type, text.as_bytes())
    }

    pub fn bytes(mut self, content_type: &str, bytes: &[u8]) -> Self {
        self.request.body = Body::Whole(bytes.to_vec().into());
        self.header("content-type", content_type)
    }

    /// A body that the adapter stopped reading.
    pub fn too_large(mut self, content_type: &str) -> Self {
        self.request.body = Body::TooLarge;
        self.header("content-type", content_type)
    }

    pub fn send(self) -> TestReply {
        let (method, path) = (self.request.method.to_string(), self.request.path.clone());
        self.app.canary.sent(&self.request);
        let reply = self.app.world.send(self.request);
        let constant = reply.constant.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let policy = reply.policy.iter().flat_map(|policy| policy.fields());
        let policy = policy.map(|(name, value)| (name.to_owned(), value));
        let own = reply.headers.iter().map(|(n, v)| ((*n).to_owned(), v.clone()));
        let reply = TestReply {
            status: reply.status.as_u16(),
            headers: constant.chain(policy).chain(own).collect(),
            json: serde_json::from_slice(&reply.body).unwrap_or(Value::Null),
            text: String::from_utf8_lossy(&reply.body).into_owned(),
        };
        self.app.canary.answered(&method, &path, &reply);
        reply
    }
}

pub struct TestReply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    /// Null where the body is not JSON.
    pub json: Value,
    pub text: String,
}

impl TestReply {
    /// The body of a success.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json
    }

    /// The problem's code, with all that every problem must hold checked.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["request_id"], self.headers["x-request-id"].as_str());
        for field in ["type", "title", "detail", "instance", "code"] {
            assert!(self.json[field].is_string(), "{field}: {}", self.text);
        }
        self.json["code"].as_str().unwrap().to_owned()
    }

    /// Pointers of what is wrong.
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.json["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }
}

/// Everything that is stored: the rows of D1 by table, and what the board of
/// the default tenant says.
#[derive(Debug, PartialEq)]
pub struct Stored {
    pub tables: BTreeMap<&'static str, Vec<Value>>,
    pub board: Value,
}

impl TestApp {
    pub fn stored(&self) -> Stored {
        let tables = TABLES.iter().map(|table| (*table, self.table(table))).collect();
        let snapshot = block_on(board::snapshot(&self.platform, DEFAULT_TENANT_ID)).unwrap();
        Stored { tables, board: serde_json::to_value(snapshot).unwrap() }
    }

    /// Each row as the list of its values.
    fn table(&self, table: &str) -> Vec<Value> {
        let query = |sql: String| block_on(self.platform.database.query(Statement::new(sql)));
        let columns: Vec<String> = query(format!("SELECT name FROM pragma_table_info('{table}')"))
            .unwrap()
            .iter()
            .map(|row| row.get("name").unwrap())
            .collect();
        let sql = format!("SELECT json_array({}) AS row FROM {table}", columns.join(", "));
        query(sql).unwrap().iter().map(|row| row.json("row").unwrap()).collect()
    }
}
