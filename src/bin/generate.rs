//! Writes the generated files: `src/http/examples.json`, the replies of the
//! application to a scripted story, `src/http/openapi.json`,
//! `tests/access.json`, what each kind of caller gets from each route, and
//! `tests/receipts.json`, receipts with what follows from changes to them.
//! `generate --check` writes nothing and fails where a file is not up to date.
//!
//! Some replies quote the files as they were compiled in (`/docs/endpoints`,
//! the readiness check), so after a change it takes two runs; `make generate`
//! does both.

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    host::main()
}

#[cfg(not(target_arch = "wasm32"))]
mod host {
    use devskyy_orchestration::auth::permission::{FOR_API_KEYS, Permission, Role};
    use devskyy_orchestration::domain::decision::{policy, receipt};
    use devskyy_orchestration::domain::time::{HOUR_MS, MINUTE_MS, Timestamp};
    use devskyy_orchestration::entry::native::{ADMIN_PASSWORD, ADMIN_USERNAME, World};
    use devskyy_orchestration::http::Endpoint;
    use devskyy_orchestration::http::openapi::{Example, Examples, example_name, generate};
    use devskyy_orchestration::http::route::{Access, BodyKind};
    use devskyy_orchestration::http::{Body, Reply, Request};
    use devskyy_orchestration::platform::Headers;
    use devskyy_orchestration::platform::native::{Fault, Script};
    use devskyy_orchestration::platform::sql::Statement;
    use devskyy_orchestration::routes::ROUTES;
    use futures::executor::block_on;
    use serde::Serialize;
    use serde_json::{Map, Value, json};
    use std::process::ExitCode;

    const EXAMPLES: &str = "src/http/examples.json";
    const OPENAPI: &str = "src/http/openapi.json";
    const ACCESS: &str = "tests/access.json";
    const RECEIPTS: &str = "tests/receipts.json";

    /// When the story is told. The partners are probed for an hour before it.
    const NOW: &str = "2026-01-31T12:00:00Z";

    /// Where the story's notifications go.
    const NOTIFIED: &str = "https://desk.example.com/incidents";

    const PASSWORD: &str = "a passphrase of your own";
    const NEXT_PASSWORD: &str = "another passphrase of your own";

    pub fn main() -> ExitCode {
        let check = std::env::args().any(|argument| argument == "--check");
        match run(check) {
            Ok(stale) if stale.is_empty() => ExitCode::SUCCESS,
            Ok(stale) => {
                eprintln!("not what the code generates: {}; run make generate", stale.join(", "));
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    }

    /// The files that are not up to date, unless they were written.
    fn run(check: bool) -> Result<Vec<&'static str>, String> {
        let examples = tell()?;
        let document = generate(ROUTES, &examples)?;
        let mut stale = Vec::new();
        for (file, text) in [
            (EXAMPLES, pretty(&examples)?),
            (OPENAPI, pretty(&document)?),
            (ACCESS, access::table()?),
            (RECEIPTS, receipts()?),
        ] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
                continue;
            }
            if check {
                stale.push(file);
            } else {
                std::fs::write(&path, text).map_err(|error| format!("{file}: {error}"))?;
                println!("wrote {file}");
            }
        }
        Ok(stale)
    }

    fn pretty(value: &impl Serialize) -> Result<String, String> {
        let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
        Ok(text + "\n")
    }

    /// The story, one line a step. `show` keeps request and reply as the
    /// example of the route; `say` does not; `refuse` keeps the problem.
    #[rustfmt::skip]
    fn tell() -> Result<Examples, String> {
        let mut story = Story::new()?;
        story.let_an_hour_pass();
        let cursor = "cursor_technical";
        let agency = "example_translation";

        let admin = json!({ "username": ADMIN_USERNAME, "password": ADMIN_PASSWORD });
        let tokens = story.show("login", &[], Some(admin))?;
        story.token = text(&tokens, "access_token");
        story.show("me", &[], None)?;

        story.show("push_observations", &[cursor], Some(observations()))?;
        let latency = json!({ "value": 84.0, "at": "2026-01-31T11:55:00.000Z" });
        story.show("push_kpi", &[cursor, "api_response_time"], Some(latency))?;
        let uptime = json!([{ "value": 99.95, "at": "2026-01-31T11:55:00.000Z" }]);
        story.say("push_kpi", &[cursor, "system_uptime"], Some(uptime))?;
        let velocity = json!({ "value": 31.5, "at": "2026-01-31T09:00:00.000Z" });
        story.say("push_kpi", &[cursor, "development_velocity"], Some(velocity))?;
        let halfway = json!({ "completion_percentage": 60.0, "status": "in_progress", "due_date": "2026-03-31" });
        let deliverable = [cursor, "microservices_architecture"];
        story.show("report_deliverable", &deliverable, Some(halfway))?;
        story.show("get_deliverable", &deliverable, None)?;
        story.show("get_partnership", &[cursor], None)?;
        story.refuse_stale("retire_partnership", &[cursor])?;
        let done = json!({ "completion_percentage": 100.0, "status": "completed" });
        story.say("report_deliverable", &[cursor, "mobile_first_platform"], Some(done))?;
        let slo = json!({ "key": "fast_answers", "kind": "latency", "target_percent": 99.0, "threshold_ms": 500.0, "period_days": 7 });
        story.show("create_slo", &[cursor], Some(slo))?;
        story.show("change_slo", &[cursor, "fast_answers"], Some(json!({ "threshold_ms": 400.0 })))?;
        story.show("list_slos", &[cursor], None)?;
        story.show("get_slo", &[cursor, "availability"], None)?;
        let patching = json!({ "name": "Patch night", "weekly": { "days": ["sunday"], "start": "02:30", "minutes": 90, "time_zone": "Europe/Berlin" } });
        let window = text(&story.show("create_maintenance", &[cursor], Some(patching))?, "id");
        story.show("list_maintenance", &[cursor], None)?;
        story.show("delete_maintenance", &[cursor, &window], None)?;
        story.show("delete_slo", &[cursor, "fast_answers"], None)?;

        let known = story.show("list_incidents", &[], None)?;
        let incident = text(known.pointer("/incidents/0").unwrap_or(&Value::Null), "id");
        story.show("acknowledge_incident", &[&incident], None)?;
        let note = json!({ "text": "xAI confirmed a bad deploy; they roll back." });
        story.show("note_incident", &[&incident], Some(note))?;
        story.show("get_incident", &[&incident], None)?;
        story.show("resolve_incident", &[&incident], None)?;
        let stricter = json!({ "partnership": "grok", "days": 1, "policy": { "min_bad_samples": 5 } });
        story.show("simulate_alerts", &[], Some(stricter))?;

        story.say("decide", &[], Some(json!({ "context": choice() })))?;
        let made = story.say("decide", &[], Some(json!({ "context": strategy() })))?;
        let decision = text(&made, "decision_id");
        story.show("decide", &[], Some(json!({ "context": investment() })))?;
        story.show("list_decisions", &[], None)?;
        story.show("get_decision", &[&decision], None)?;
        story.show("replay_decision", &[&decision], None)?;
        let cheaper = json!({ "weights": { "cost_share": 40.0 }, "facts": { "grok_brand.score": 95.0 } });
        story.show("what_if", &[&decision], Some(cheaper))?;
        let done = json!({ "outcome": "adopted", "observed": observed(&made), "note": "Looked at after a month." });
        story.show("record_outcome", &[&decision], Some(done))?;
        story.show("decision_quality", &[], None)?;
        story.show("receipt_keys", &[], None)?;
        story.show("list_policies", &[], None)?;
        story.show("get_policy", &["standard"], None)?;
        story.refuse(428, "replace_policy", &["standard"], Some(small_policy()?))?;
        let draft = json!({ "document": small_policy()?, "days": 30 });
        story.show("rehearse_policy", &["standard"], Some(draft))?;
        story.show_tied("replace_policy", &["standard"], "get_policy", small_policy()?)?;
        story.show("list_policy_versions", &["standard"], None)?;
        story.show("get_policy_version", &["standard", "1"], None)?;

        story.show("create_partnership", &[], Some(new_partnership(agency)))?;
        let faster =
            json!({ "latency_target_ms": 300.0, "aliases": ["translation", "localisation"] });
        story.show("change_partnership", &[agency], Some(faster))?;

        story.show("health", &[], None)?;
        story.show("list_metrics", &[], None)?;
        story.show_text("list_metrics", "application/openmetrics-text")?;
        story.show_text("list_metrics", "text/plain")?;
        story.show_text("scrape", "text/plain")?;
        story.show_text("scrape", "application/openmetrics-text")?;
        story.show("get_metrics", &[cursor], None)?;
        story.show("list_partnerships", &[], None)?;
        story.show("get_partnership_status", &[cursor], None)?;
        story.show("status", &[], None)?;
        story.show("config", &[], None)?;
        let more = json!({ "limits": { "ingest": 1200 } });
        story.show("change_config", &[], Some(more))?;
        story.show("readiness", &[], None)?;
        story.show("info", &[], None)?;
        let begun = story.show("create_backup", &[], None)?;
        let set = text(&begun, "id");
        story.back_up();
        story.show("list_backups", &[], None)?;
        story.show("get_backup", &[&set], None)?;
        story.show("verify_backup", &[&set], None)?;
        story.restore(&set)?;
        story.show("list_endpoints", &[], None)?;
        story.show("jwks", &[], None)?;

        let maria = json!({ "username": "maria", "email": "maria@example.com", "password": PASSWORD, "role": "viewer" });
        let user = text(&story.show("create_user", &[], Some(maria.clone()))?, "id");
        story.show("list_users", &[], None)?;
        let scraper = json!({ "name": "Prometheus", "permissions": ["metrics:read"], "expires_in_days": 180 });
        let made = story.show("create_key", &[], Some(scraper))?;
        let key = text(made.get("api_key").unwrap_or(&Value::Null), "id");
        story.show("get_key", &[&key], None)?;
        let next = story.show("rotate_key", &[&key], Some(json!({ "overlap_seconds": 3600 })))?;
        story.show("list_keys", &[], None)?;
        story.show("revoke_key", &[&key], None)?;
        story.refuse_too_many("list_metrics", &text(&next, "key"))?;
        let scraper = text(next.get("api_key").unwrap_or(&Value::Null), "id");
        story.show("get_rate_limits", &[&scraper], None)?;
        story.show("lift_block", &[&scraper], None)?;
        story.show("list_activity", &[], None)?;
        story.let_notifications_arrive();
        let hook = json!({ "kind": "webhook", "name": "Our own desk", "min_severity": "info", "url": NOTIFIED });
        let made = story.show("create_channel", &[], Some(hook))?;
        let channel = text(made.get("channel").unwrap_or(&Value::Null), "id");
        story.show("get_channel", &[&channel], None)?;
        story.show("change_channel", &[&channel], Some(json!({ "name": "The desk" })))?;
        let sent = text(&story.show("test_channel", &[&channel], None)?, "id");
        story.show("replay_delivery", &[&sent], None)?;
        story.world.ring();
        story.show("list_deliveries", &[&channel], None)?;
        story.show("list_channels", &[], None)?;
        story.show("delete_channel", &[&channel], None)?;
        story.refuse(409, "create_user", &[], Some(maria))?;
        story.refuse(
            422,
            "create_user",
            &[],
            Some(json!({ "username": "x", "password": "short", "role": "boss" })),
        )?;
        story.refuse(404, "get_metrics", &["nobody"], None)?;
        story.refuse_body(
            400,
            "decide",
            "application/json",
            Body::Whole("{\"context\":".into()),
        )?;
        story.refuse_body(413, "decide", "application/json", Body::TooLarge)?;
        story.refuse_body(415, "decide", "text/plain", Body::Whole("context".into()))?;
        story.refuse_unreachable("info")?;

        let as_maria = json!({ "username": "maria", "password": PASSWORD });
        let hers = story.say("login", &[], Some(as_maria))?;
        let admins = std::mem::replace(&mut story.token, text(&hers, "access_token"));
        story.refuse(403, "list_metrics", &[], None)?;
        let passwords = json!({ "current_password": PASSWORD, "new_password": NEXT_PASSWORD });
        story.show("change_password", &[], Some(passwords))?;
        story.token = admins;
        story.show("change_user", &[&user], Some(json!({ "role": "orchestration_manager" })))?;

        story.show("retire_partnership", &[agency], None)?;
        let spend = json!({ "refresh_token": text(&tokens, "refresh_token") });
        let next = story.show("refresh", &[], Some(spend))?;
        let last = json!({ "refresh_token": text(&next, "refresh_token") });
        story.show("logout", &[], Some(last))?;
        story.refuse_broken("config")?;
        story.token = String::new();
        story.refuse(401, "info", &[], None)?;
        story.finish()
    }

    /// Three calls a client saw; the last is refused, as it is from tomorrow.
    #[rustfmt::skip]
    fn observations() -> Value {
        json!([
            { "at": "2026-01-31T11:58:30.000Z", "outcome": "up", "latency_ms": 212.4, "source": "gateway-eu" },
            { "at": "2026-02-01T12:00:00.000Z", "outcome": "up", "latency_ms": 198.0, "source": "gateway-eu" },
            { "at": "2026-01-31T11:59:30.000Z", "outcome": "throttled", "source": "gateway-eu" },
        ])
    }

    fn investment() -> Value {
        json!({
            "title": "Second region for the shop",
            "estimated_cost": 40000.0,
            "expected_revenue": 95000.0,
            "estimated_days": 60.0,
            "technical_complexity": 4.0,
            "market_uncertainty": 3.0,
            "resource_availability": 7.0,
            "timeline_pressure": 2.0,
            "customer_impact": 12000.0,
            "affects_customers": true,
        })
    }

    fn strategy() -> Value {
        json!({ "business_goal": "improve_reliability", "timeframe": "90_days", "budget": 50000.0 })
    }

    fn choice() -> Value {
        let criterion = |id: &str, direction: &str, weight: f64, bounds: [f64; 2]| json!({ "id": id, "direction": direction, "weight": weight, "bounds": bounds });
        json!({
            "title": "Who answers the chat",
            "options": [
                { "id": "cursor", "values": { "uptime": "cursor.metrics.uptime", "price": 40.0 } },
                { "id": "claude", "values": { "uptime": "claude.metrics.uptime", "price": 55.0 } },
            ],
            "criteria": [
                criterion("uptime", "max", 7.0, [90.0, 100.0]),
                criterion("price", "min", 3.0, [0.0, 100.0]),
            ],
        })
    }

    /// Every success criterion of a decision, just met.
    fn observed(decision: &Value) -> Value {
        let criteria = decision.get("success_criteria").and_then(Value::as_array);
        let values = criteria.into_iter().flatten().filter_map(|criterion| {
            let fact = criterion.get("fact")?.as_str()?;
            Some((fact.to_owned(), criterion.get("target")?.clone()))
        });
        values.collect::<Map<_, _>>().into()
    }

    /// The policy that ships, with the one option that needs no evidence.
    fn small_policy() -> Result<Value, String> {
        let mut policy = policy::shipped()?;
        policy.title = "Nothing but the present course".to_owned();
        policy.strategy.catalogue.retain(|option| option.id == "MAINTAIN_COURSE");
        serde_json::to_value(policy).map_err(|error| error.to_string())
    }

    fn new_partnership(id: &str) -> Value {
        json!({
            "id": id,
            "name": "Translation",
            "partner": "Example Translation",
            "aliases": ["translation"],
            "latency_target_ms": 400.0,
            "probes": [{ "key": "api", "url": "https://api.example.com/v1/languages", "degraded_above_ms": 800.0 }],
            "kpis": [{ "name": "accuracy", "target": 97.0, "unit": "percent", "direction": "higher" }],
            "deliverables": [{ "key": "glossary", "due_date": "2026-04-30" }],
        })
    }

    /// Receipts of every kind, the keys that verify them, and what the host
    /// makes of changes to each, as canonical JSON: the same is asked of the
    /// Worker and of the npm package.
    fn receipts() -> Result<String, String> {
        let mut story = Story::new()?;
        story.let_an_hour_pass();
        let admin = json!({ "username": ADMIN_USERNAME, "password": ADMIN_PASSWORD });
        story.token = text(&story.say("login", &[], Some(admin))?, "access_token");
        let mut uncertain = investment();
        let revenue = json!({ "low": 50000.0, "mode": 95000.0, "high": 130000.0 });
        if let Some(fields) = uncertain.as_object_mut() {
            fields.insert("expected_revenue".to_owned(), revenue);
            fields.insert("annual_discount_rate_percent".to_owned(), json!(7.5));
            fields.insert(
                "revenue_period_days".to_owned(),
                json!({ "low": 90.0, "mode": 180.0, "high": 365.0 }),
            );
        }
        let cases = [
            (investment(), json!({ "facts": { "context.technical_complexity": 9.5 } })),
            (uncertain, json!({ "facts": { "context.estimated_cost": 61234.5 } })),
            (strategy(), json!({ "weights": { "resilience": 3.0, "cost_share": 33.0 } })),
            (
                choice(),
                json!({ "facts": { "claude_strategic.metrics.uptime": 99.7 }, "constraints": [] }),
            ),
            (choice(), json!({ "facts": { "claude_strategic.metrics.uptime": null } })),
        ];
        let mut lines = Vec::new();
        for (context, changes) in cases {
            let made = story.say("decide", &[], Some(json!({ "context": context })))?;
            let record = story.say("get_decision", &[&text(&made, "decision_id")], None)?;
            let what_if = receipt::what_if_text(&record.to_string(), &changes.to_string())?;
            lines.push(json!({ "record": record, "changes": changes, "what_if": what_if }));
        }
        let keys = story.say("receipt_keys", &[], None)?;
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        Ok(format!("{{\n\"keys\": {keys},\n\"cases\": [\n{}\n]\n}}\n", lines.join(",\n")))
    }

    /// The application, and what was kept of its replies.
    struct Story {
        world: World,
        token: String,
        examples: Examples,
    }

    impl Story {
        fn new() -> Result<Self, String> {
            let now = Timestamp::parse(NOW)?;
            let world = World::new(now.plus_ms(-HOUR_MS)).map_err(|error| error.to_string())?;
            Ok(Self { world, token: String::new(), examples: Examples::new() })
        }

        /// Sixty ticks. The partners answer, most of the time.
        fn let_an_hour_pass(&mut self) {
            let outbound = &self.world.platform.outbound;
            for target in &self.world.app.config.control_targets {
                outbound.script(target, Script::Status(200, 20.0));
            }
            for status_page in [
                "https://status.cursor.com/api/v2/summary.json",
                "https://status.openai.com/api/v2/summary.json",
                "https://status.claude.com/api/v2/summary.json",
            ] {
                outbound.script(status_page, Script::Body(200, STATUS_PAGE.into(), 90.0));
            }
            for minute in 0_i64..60 {
                let jitter_ms = (minute * 37 % 50) as f64;
                let now_and_then = if minute % 20 == 7 { 503 } else { 404 };
                let broken = if minute > 54 { 503 } else { 401 };
                for (url, status, latency_ms) in [
                    ("https://api2.cursor.sh/", 200, 180.0),
                    ("https://api.x.ai/v1/models", broken, 310.0),
                    ("https://generativelanguage.googleapis.com/v1beta/models", 403, 95.0),
                    ("https://api.openai.com/v1/models", 401, 140.0),
                    ("https://api.anthropic.com/v1/models", 401, 125.0),
                    ("https://api.perplexity.ai/", now_and_then, 260.0),
                ] {
                    outbound.script(url, Script::Status(status, latency_ms + jitter_ms));
                }
                let clock = &self.world.platform.clock;
                self.world.scheduled("* * * * *", Timestamp::from_millis(clock.now_ms()));
                clock.advance_ms(MINUTE_MS);
            }
        }

        /// The receiver of a webhook is there.
        fn let_notifications_arrive(&mut self) {
            self.world.platform.outbound.script(NOTIFIED, Script::Status(204, 41.0));
        }

        /// The hourly job writes the set that was begun.
        fn back_up(&mut self) {
            let clock = &self.world.platform.clock;
            self.world.scheduled("37 * * * *", Timestamp::from_millis(clock.now_ms()));
        }

        /// In another environment, which has nothing but the bucket.
        fn restore(&mut self, set: &str) -> Result<(), String> {
            let mut empty = Story::new()?;
            let now = self.world.platform.clock.now_ms();
            empty.world.platform.clock.set_ms(now);
            let bucket = self.world.platform.bucket.contents();
            empty.world.platform.bucket.set_contents(bucket);
            let admin = json!({ "username": ADMIN_USERNAME, "password": ADMIN_PASSWORD });
            empty.token = text(&empty.say("login", &[], Some(admin))?, "access_token");
            while empty.show("restore_backup", &[set], None)?.get("drill") == Some(&Value::Null) {}
            self.examples.extend(empty.examples);
            Ok(())
        }

        /// Calls a route and keeps request and reply as its example.
        fn show(
            &mut self,
            id: &str,
            parameters: &[&str],
            body: Option<Value>,
        ) -> Result<Value, String> {
            let route = find(id)?;
            let reply = self.say(id, parameters, body.clone())?;
            let names = route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
            let example = Example {
                parameters: names
                    .zip(parameters)
                    .map(|(n, v)| (n.to_owned(), (*v).to_owned()))
                    .collect(),
                request: body.map(|body| readable(body, usize::MAX)),
                response: (!reply.is_null()).then(|| readable(reply.clone(), KEPT)),
            };
            self.examples.insert(id.to_owned(), example);
            Ok(reply)
        }

        /// As [`Story::show`], tied by `If-Match` to what another route shows.
        fn show_tied(
            &mut self,
            id: &str,
            parameters: &[&str],
            reader: &str,
            body: Value,
        ) -> Result<(), String> {
            let known = self.expect(200, reader, parameters, &[], None)?;
            let etag = known.header("etag").unwrap_or_default().to_owned();
            let fields = [("content-type", "application/json"), ("if-match", etag.as_str())];
            let sent = Body::Whole(body.to_string().into());
            let reply = json_of(self.expect(200, id, parameters, &fields, Some(sent))?)?;
            let example = Example {
                request: Some(body),
                response: Some(readable(reply, KEPT)),
                ..self.examples.get(reader).cloned().unwrap_or_default()
            };
            self.examples.insert(id.to_owned(), example);
            Ok(())
        }

        /// Calls a route that then must succeed.
        fn say(
            &mut self,
            id: &str,
            parameters: &[&str],
            body: Option<Value>,
        ) -> Result<Value, String> {
            let status = find(id)?.status;
            let body = body.map(|body| Body::Whole(body.to_string().into()));
            self.expect(status, id, parameters, &[("content-type", "application/json")], body)
                .and_then(json_of)
        }

        /// The reply in another media type than the route's first.
        fn show_text(&mut self, id: &str, media: &str) -> Result<(), String> {
            let route = find(id)?;
            let reply = self.expect(route.status, id, &[], &[("accept", media)], None)?;
            let text = String::from_utf8_lossy(&reply.body);
            let example = Example { response: Some(shortened(&text).into()), ..Example::default() };
            self.examples.insert(example_name(route, media), example);
            Ok(())
        }

        /// Calls a route that then must fail, and keeps the problem.
        fn refuse(
            &mut self,
            status: u16,
            id: &str,
            parameters: &[&str],
            body: Option<Value>,
        ) -> Result<(), String> {
            let body = body.map(|body| Body::Whole(body.to_string().into()));
            let reply =
                self.expect(status, id, parameters, &[("content-type", "application/json")], body)?;
            self.keep_problem(status, reply)
        }

        fn refuse_body(
            &mut self,
            status: u16,
            id: &str,
            media: &str,
            body: Body,
        ) -> Result<(), String> {
            let reply = self.expect(status, id, &[], &[("content-type", media)], Some(body))?;
            self.keep_problem(status, reply)
        }

        /// 412: somebody else changed it since it was read.
        fn refuse_stale(&mut self, id: &str, parameters: &[&str]) -> Result<(), String> {
            let reply =
                self.expect(412, id, parameters, &[("if-match", "\"read-an-hour-ago\"")], None)?;
            self.keep_problem(412, reply)
        }

        /// 429: a script without pauses.
        fn refuse_too_many(&mut self, id: &str, key: &str) -> Result<(), String> {
            let token = std::mem::replace(&mut self.token, key.to_owned());
            for _ in 0..100 {
                self.expect(200, id, &[], &[], None)?;
            }
            self.refuse(429, id, &[], None)?;
            self.token = token;
            Ok(())
        }

        /// 503: the database loses the query and its repetition.
        fn refuse_unreachable(&mut self, id: &str) -> Result<(), String> {
            for _ in 0..2 {
                self.world.platform.database.inject("SELECT", Fault::Lost);
            }
            self.refuse(503, id, &[], None)
        }

        /// 500: rows that cannot be missing are. Nothing after this needs them.
        fn refuse_broken(&mut self, id: &str) -> Result<(), String> {
            let lose = Statement::new("DELETE FROM settings");
            block_on(self.world.platform.database.batch(vec![lose])).map_err(|e| e.to_string())?;
            self.refuse(500, id, &[], None)
        }

        fn keep_problem(&mut self, status: u16, reply: Reply) -> Result<(), String> {
            let example = Example { response: Some(json_of(reply)?), ..Example::default() };
            self.examples.insert(format!("problem.{status}"), example);
            Ok(())
        }

        fn expect(
            &mut self,
            status: u16,
            id: &str,
            parameters: &[&str],
            fields: &[(&str, &str)],
            body: Option<Body>,
        ) -> Result<Reply, String> {
            let route = find(id)?;
            let mut headers = Headers::default();
            if !self.token.is_empty() {
                headers.set("authorization", &format!("Bearer {}", self.token));
            }
            for (name, value) in fields {
                headers.set(name, value);
            }
            let reply = self.world.send(Request {
                method: route.method.clone(),
                path: path(route, parameters)?,
                query: None,
                headers,
                body: body.unwrap_or_else(|| Body::Whole(Default::default())),
            });
            if reply.status.as_u16() == status {
                return Ok(reply);
            }
            let body = String::from_utf8_lossy(&reply.body);
            Err(format!("{id}: expected {status}, got {}: {body}", reply.status))
        }

        /// Every route has its example, but those that serve documents whole.
        fn finish(self) -> Result<Examples, String> {
            let documents = ["openapi", "docs", "docs_asset"];
            let missing: Vec<_> = ROUTES
                .iter()
                .map(|route| route.id)
                .filter(|id| !documents.contains(id) && !self.examples.contains_key(*id))
                .collect();
            if missing.is_empty() {
                Ok(self.examples)
            } else {
                Err(format!("the story in src/bin/generate.rs never calls {}", missing.join(", ")))
            }
        }
    }

    fn find(id: &str) -> Result<&'static Endpoint, String> {
        ROUTES.iter().find(|route| route.id == id).ok_or_else(|| format!("no route is called {id}"))
    }

    /// The path with its `{parameters}` filled in.
    fn path(route: &Endpoint, parameters: &[&str]) -> Result<String, String> {
        let mut path = String::new();
        let mut values = parameters.iter();
        for (index, part) in route.path.split(['{', '}']).enumerate() {
            // Every second part stood between braces.
            path.push_str(match index % 2 {
                0 => part,
                _ => {
                    values.next().ok_or_else(|| format!("{}: {{{part}}} has no value", route.id))?
                }
            });
        }
        Ok(path)
    }

    fn json_of(reply: Reply) -> Result<Value, String> {
        if reply.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&reply.body).map_err(|error| error.to_string())
    }

    fn text(value: &Value, name: &str) -> String {
        value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Lists and dictionaries of replies are cut to this many entries.
    const KEPT: usize = 2;

    /// Without tokens; lists and dictionaries cut to so many entries.
    fn readable(value: Value, kept: usize) -> Value {
        match value {
            Value::Array(items) => {
                items.into_iter().take(kept).map(|item| readable(item, kept)).collect()
            }
            Value::Object(fields) => {
                let entries = if is_dictionary(&fields) { kept } else { usize::MAX };
                let readable = |(name, value): (String, Value)| match name.as_str() {
                    // Fields of their own, though all of one shape.
                    "evidence" if value.is_object() => (name, value),
                    "access_token" | "refresh_token" => {
                        let placeholder = format!("<{}>", name.replace('_', " "));
                        (name, placeholder.into())
                    }
                    _ => (name, readable(value, kept)),
                };
                fields.into_iter().take(entries).map(readable).collect::<Map<_, _>>().into()
            }
            Value::String(secret) if secret.starts_with("dsk_") && secret.len() > 20 => {
                "<API key>".into()
            }
            Value::String(secret) if secret.starts_with("whsec_") => "<webhook secret>".into(),
            other => other,
        }
    }

    /// Whether all entries are objects with the same fields: then the keys are
    /// names of things and not fields of their own.
    fn is_dictionary(fields: &Map<String, Value>) -> bool {
        let mut shapes =
            fields.values().map(|value| value.as_object().map(|o| o.keys().collect::<Vec<_>>()));
        match shapes.next() {
            Some(Some(first)) => shapes.all(|shape| shape.as_ref() == Some(&first)),
            _ => false,
        }
    }

    /// The first samples of every family of metrics.
    fn shortened(exposition: &str) -> String {
        let mut kept = String::new();
        let mut samples = 0;
        for line in exposition.lines() {
            samples = if line.starts_with('#') { 0 } else { samples + 1 };
            if samples <= KEPT {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        kept
    }

    const STATUS_PAGE: &str = r#"{
        "page": { "updated_at": "2026-01-31T10:12:00.000Z" },
        "status": { "indicator": "none", "description": "All Systems Operational" },
        "components": [{ "id": "1", "name": "API", "status": "operational" }],
        "incidents": []
    }"#;

    /// `tests/access.json`: every route x every kind of caller -> the status.
    ///
    /// It follows from the route table and the grants of roles, so a change of
    /// either shows as a change of the file. The tests send each of these
    /// requests, on the host and on workerd.
    mod access {
        use super::*;

        /// What the rows name, beside the seeds of the first tenant. There is a
        /// user for each role, as a token alone may not do for a route.
        const GIVEN: &[&str] = &[
            "INSERT INTO tenants (id, name, created_at) VALUES ('ten_access_other', 'Other', 0)",
            "INSERT INTO settings (tenant_id, version, document, author_id, created_at) \
             SELECT 'ten_access_other', 1, document, 'system', 0 FROM settings \
             WHERE tenant_id = 'ten_default' AND version = 1",
            "INSERT INTO users (id, tenant_id, username, password_hash, password_source, role, \
             created_at, created_by, updated_at) \
             SELECT 'usr_access_' || value, 'ten_default', 'access-' || value, 'x', 'admin', \
             iif(value = 'target', 'viewer', value), 0, 'system', 0 \
             FROM json_each('[\"admin\",\"system_admin\",\"orchestration_manager\",\"viewer\",\
             \"ingest\",\"metrics_viewer\",\"target\"]')",
            "INSERT INTO users (id, tenant_id, username, password_hash, password_source, role, \
             created_at, created_by, updated_at) VALUES ('usr_access_other', 'ten_access_other', \
             'access-other', 'x', 'admin', 'admin', 0, 'system', 0)",
            "INSERT INTO partnerships (tenant_id, id, name, partner, availability_target_percent, \
             availability_floor_percent, degraded_counts_as_bad, revision, created_at, updated_at) \
             VALUES ('ten_default', 'access_retired', 'Retired', 'Nobody', 99.9, 95, 0, 1, 0, 0)",
            "INSERT INTO partnership_names (tenant_id, name, partnership_id) \
             VALUES ('ten_default', 'access_retired', 'access_retired')",
            "INSERT INTO decisions (id, tenant_id, kind, decision, inputs, reply, author_id, \
             created_at) VALUES ('dec_access_target', 'ten_default', 'appraisal', \
             'INSUFFICIENT_DATA', '{}', '{}', 'system', 0)",
            // Nobody can open its secret, so a test of it calls nowhere.
            "INSERT INTO channels (tenant_id, id, kind, name, min_severity, enabled, host, sealed, \
             revision, created_at, created_by, updated_at) VALUES ('ten_default', \
             'chn_access_target', 'slack', 'target', 'critical', 1, 'example.com', 'x', 1, 0, \
             'system', 0)",
            "INSERT INTO backups (id, state, started_at, finished_at, rows_stored, bytes_stored, \
             manifest, lease, lease_until) VALUES ('bak_00000000-0000-7000-8000-000000000000', \
             'good', 0, 0, 0, 0, '{\"id\":\"bak_00000000-0000-7000-8000-000000000000\",\
             \"format\":1,\"schema_version\":\"\",\"app_version\":\"\",\
             \"started_at\":\"1970-01-01T00:00:00.000Z\",\
             \"finished_at\":\"1970-01-01T00:00:00.000Z\",\"files\":[]}', '', 0)",
        ];

        const NO_NEW_CHANNEL: &[&str] = &["DELETE FROM channels WHERE name = 'access-new'"];
        const CHANNEL_TO_DELETE: &[&str] = &[
            "INSERT OR REPLACE INTO channels (tenant_id, id, kind, name, min_severity, enabled, \
             host, sealed, revision, created_at, created_by, updated_at) VALUES ('ten_default', \
             'chn_access_gone', 'slack', 'gone', 'critical', 1, 'example.com', 'x', 1, 0, \
             'system', 0)",
        ];

        const SLO: &[&str] = &[
            "INSERT OR REPLACE INTO slos (tenant_id, partnership_id, key, kind, target_percent, \
             period_days) VALUES ('ten_default', 'cursor_technical', 'access_target', \
             'availability', 99, 7)",
        ];
        const NO_NEW_SLO: &[&str] = &["DELETE FROM slos WHERE key = 'access_new'"];
        const MAINTENANCE: &[&str] =
            &["INSERT OR REPLACE INTO maintenance_windows (id, tenant_id, partnership_id, name, \
             schedule, created_at, created_by) VALUES ('mwn_access_target', 'ten_default', \
             'cursor_technical', 'target', '{\"weekly\":{\"days\":[\"sunday\"],\
             \"start\":\"02:30\",\"minutes\":1,\"time_zone\":\"UTC\"}}', 0, 'system')"];
        const NO_NEW_MAINTENANCE: &[&str] =
            &["DELETE FROM maintenance_windows WHERE name = 'access-new'"];
        const UNRETIRE: &[&str] =
            &["UPDATE partnerships SET retired_at = NULL WHERE id = 'access_retired'"];
        const NO_NEW_PARTNERSHIP: &[&str] = &[
            "DELETE FROM partnership_names WHERE partnership_id = 'access_new'",
            "DELETE FROM slos WHERE partnership_id = 'access_new'",
            "DELETE FROM partnerships WHERE id = 'access_new'",
        ];
        const NO_NEW_USER: &[&str] = &["DELETE FROM users WHERE username = 'access-new'"];
        const NO_RUN: &[&str] = &["DELETE FROM backups WHERE state = 'running'"];
        /// Times in 1970 and 2100.
        const LIVE_KEY: &[&str] = &[
            "DELETE FROM api_keys WHERE id = 'key_access_target'",
            "INSERT INTO api_keys (id, tenant_id, name, prefix, secret_hash, permissions, \
             created_at, created_by, expires_at) VALUES ('key_access_target', 'ten_default', \
             'target', 'dsk_target', 'x', '[\"metrics:read\"]', 0, 'system', 4102444800000)",
        ];

        /// A request that succeeds, unless it says that it cannot.
        #[derive(Default)]
        struct Case {
            body: Option<Value>,
            /// SQL that puts in place what the request uses up.
            before: &'static [&'static str],
            /// Where success is out of reach of this table: what comes instead.
            status: Option<u16>,
        }

        /// What is not self-evident of a route. In bodies, `{now}` is the time.
        fn case(id: &str) -> Case {
            let body = |body: Value| Case { body: Some(body), ..Case::default() };
            match id {
                "decide" => body(json!({ "context": {} })),
                "create_partnership" => Case {
                    before: NO_NEW_PARTNERSHIP,
                    ..body(json!({ "id": "access_new", "name": "New", "partner": "New" }))
                },
                "change_partnership" => body(json!({ "latency_target_ms": 300.0 })),
                "retire_partnership" => Case { before: UNRETIRE, ..Case::default() },
                "report_deliverable" => {
                    body(json!({ "completion_percentage": 50.0, "status": "in_progress" }))
                }
                "push_observations" => {
                    body(json!([{ "at": "{now}", "outcome": "up", "source": "gateway" }]))
                }
                "push_kpi" => body(json!({ "value": 99.0, "at": "{now}" })),
                "create_slo" => Case {
                    before: NO_NEW_SLO,
                    ..body(json!({
                        "key": "access_new", "kind": "availability", "target_percent": 99.0,
                        "period_days": 7,
                    }))
                },
                "get_slo" | "delete_slo" => Case { before: SLO, ..Case::default() },
                "change_slo" => Case { before: SLO, ..body(json!({ "period_days": 30 })) },
                "create_maintenance" => Case {
                    before: NO_NEW_MAINTENANCE,
                    ..body(json!({
                        "name": "access-new",
                        "weekly": {
                            "days": ["sunday"], "start": "02:30", "minutes": 1, "time_zone": "UTC",
                        },
                    }))
                },
                "delete_maintenance" => Case { before: MAINTENANCE, ..Case::default() },
                // Incidents live in an object, which SQL cannot reach.
                "get_incident" | "acknowledge_incident" | "resolve_incident" => {
                    Case { status: Some(404), ..Case::default() }
                }
                "note_incident" => Case { status: Some(404), ..body(json!({ "text": "a note" })) },
                "simulate_alerts" => body(json!({ "days": 1 })),
                // Decided before there were receipts, as SQL can sign none.
                "replay_decision" => Case { status: Some(409), ..Case::default() },
                "what_if" => Case { status: Some(409), ..body(json!({})) },
                "record_outcome" => body(json!({ "outcome": "rejected" })),
                // The table has no If-Match.
                "replace_policy" => {
                    Case { status: Some(428), body: small_policy().ok(), ..Case::default() }
                }
                "rehearse_policy" => Case {
                    body: small_policy().ok().map(|draft| json!({ "document": draft, "days": 1 })),
                    ..Case::default()
                },
                "change_config" => body(json!({ "limits": { "ingest": 700 } })),
                // No user of the table has a password that anybody knows.
                "login" => Case {
                    status: Some(401),
                    ..body(json!({ "username": "access-nobody", "password": "none of his" }))
                },
                "refresh" => {
                    Case { status: Some(401), ..body(json!({ "refresh_token": "rt_of_nobody" })) }
                }
                "change_password" => Case {
                    status: Some(422),
                    ..body(json!({ "current_password": "x", "new_password": "a password of his" }))
                },
                "logout" => body(json!({ "refresh_token": "rt_of_nobody" })),
                "create_user" => Case {
                    before: NO_NEW_USER,
                    ..body(json!({
                        "username": "access-new", "password": "a password of hers", "role": "viewer",
                    }))
                },
                "change_user" => body(json!({ "role": "ingest" })),
                "create_key" => {
                    body(json!({ "name": "access-new", "permissions": ["metrics:read"] }))
                }
                // Without files, as SQL can put none into the bucket.
                "create_backup" => Case { before: NO_RUN, ..Case::default() },
                // Nothing is as empty as it would have to be.
                "restore_backup" => Case { status: Some(409), ..Case::default() },
                "get_key" | "revoke_key" => Case { before: LIVE_KEY, ..Case::default() },
                "create_channel" => Case {
                    before: NO_NEW_CHANNEL,
                    ..body(json!({
                        "kind": "pagerduty", "name": "access-new", "enabled": false,
                        "routing_key": "0123456789abcdef0123456789abcdef",
                    }))
                },
                "change_channel" => body(json!({ "min_severity": "critical" })),
                "delete_channel" => Case { before: CHANNEL_TO_DELETE, ..Case::default() },
                // Deliveries are in the object, where no SQL of this table gets.
                "replay_delivery" => Case { status: Some(404), ..Case::default() },
                "rotate_key" => Case { before: LIVE_KEY, ..body(json!({})) },
                _ => Case::default(),
            }
        }

        /// The route's path with what is there: in the first tenant, but for
        /// the file.
        fn concrete(route: &Endpoint) -> Result<String, String> {
            let values: Vec<&str> = match route.path.split_once('{').map(|(start, _)| start) {
                None => vec![],
                Some("/api/v1/orchestration/metrics/") => vec!["cursor_technical"],
                Some("/api/v1/orchestration/partnerships/") => match route.id {
                    "retire_partnership" => vec!["access_retired"],
                    "push_kpi" => vec!["cursor_technical", "security_score"],
                    "delete_maintenance" => vec!["cursor_technical", "mwn_access_target"],
                    "get_slo" | "change_slo" | "delete_slo" => {
                        vec!["cursor_technical", "access_target"]
                    }
                    _ => vec!["cursor_technical", "mobile_first_platform"],
                },
                Some("/api/v1/orchestration/incidents/") => vec!["inc_access_target"],
                Some("/api/v1/orchestration/rate-limits/") => vec!["usr_access_target"],
                Some("/api/v1/auth/users/") => vec!["usr_access_target"],
                Some("/api/v1/auth/keys/") => vec!["key_access_target"],
                Some("/api/v1/orchestration/channels/") => match route.id {
                    "delete_channel" => vec!["chn_access_gone"],
                    _ => vec!["chn_access_target"],
                },
                Some("/api/v1/orchestration/deliveries/") => vec!["dlv_access_none"],
                Some("/api/v1/orchestration/backups/") => {
                    vec!["bak_00000000-0000-7000-8000-000000000000"]
                }
                Some("/api/v1/orchestration/decisions/") => vec!["dec_access_target"],
                Some("/api/v1/orchestration/policies/") => vec!["standard", "1"],
                Some("/docs-assets/") => vec!["page.js"],
                Some(_) => return Err(format!("{}: nothing is known to be there", route.path)),
            };
            path(route, &values)
        }

        /// The row of a route: each caller with the status he gets.
        fn row(route: &Endpoint) -> Result<String, String> {
            let Case { body, before, status } = case(route.id);
            if body.is_some() != (route.body != BodyKind::None) {
                return Err(format!("mod access does not know what to send to {}", route.id));
            }
            let permission = match route.access {
                Access::Requires(permission) | Access::PublicHealth(permission) => Some(permission),
                Access::Public | Access::Authenticated | Access::User => None,
            };
            let success = status.unwrap_or(route.status);
            let public = route.access == Access::Public;
            let if_may = |may: bool| if may { success } else { 403 };

            let mut expected: Vec<(&str, u16)> = Vec::new();
            for role in Role::ALL {
                let may = permission.is_none_or(|permission| role.may(permission));
                expected.push((role.name(), if_may(may)));
            }
            let for_keys = permission.is_none_or(|needed| FOR_API_KEYS.contains(&needed))
                && route.access != Access::User;
            let open = public || matches!(route.access, Access::PublicHealth(_));
            // Every tenant has a policy of this name.
            let of_all = public || route.path.contains("/policies");
            let of_first = (route.path.contains('{') || route.path.contains("/backups")) && !of_all;
            expected.extend([
                ("api_key", if_may(for_keys)),
                ("api_key_without", if_may(for_keys && permission.is_none())),
                ("none", if open { success } else { 401 }),
                ("expired", if public { success } else { 401 }),
                ("other_tenant", if of_first { 404 } else { success }),
            ]);
            let expected: Vec<String> =
                expected.iter().map(|(who, status)| format!("\"{who}\": {status}")).collect();
            // By hand, as a map would sort its keys.
            let fields = [
                ("id", json!(route.id)),
                ("method", json!(route.method.as_str())),
                ("path", json!(concrete(route)?)),
                ("permission", json!(permission.map(Permission::name))),
                ("body", json!(body)),
                ("before", json!(before)),
            ];
            let fields: String =
                fields.iter().map(|(name, value)| format!("\"{name}\": {value}, ")).collect();
            Ok(format!("{{{fields}\"expected\": {{{}}}}}", expected.join(", ")))
        }

        /// A row of the table on a line of the file.
        pub fn table() -> Result<String, String> {
            let rows = ROUTES.iter().map(row).collect::<Result<Vec<_>, _>>()?;
            let keys: Vec<&str> = FOR_API_KEYS.iter().map(|permission| permission.name()).collect();
            let given: Vec<String> = GIVEN.iter().map(|sql| json!(sql).to_string()).collect();
            let list = |lines: &[String]| format!("[\n    {}\n  ]", lines.join(",\n    "));
            Ok(format!(
                "{{\n  \"given\": {},\n  \"key_permissions\": {},\n  \"rows\": {}\n}}\n",
                list(&given),
                json!(keys),
                list(&rows)
            ))
        }
    }
}
