// Runs Schemathesis against the real Worker, from the OpenAPI document that it serves: every operation, valid and
// invalid requests, and chains of requests. What it sends follows from the document, so the document is tested as much
// as the code. See schemathesis.toml for the settings and hooks.py for what a schema cannot say.
//
//   SCHEMATHESIS   the program; `make test-schema` and `make fuzz` set it
//   FUZZ_EXAMPLES  test cases an operation in the random phases
//   FUZZ_SECONDS   repeat the random phases until so many seconds have passed
//   FUZZ_SEED      what the random choices follow from; any, when not set (the closing lines name it)
//   FUZZ_WORKERS   requests at the same time
//
// Further arguments go to Schemathesis as they are: node tests/fuzz/schema.mjs --include-operation-id login
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { API, AUTH, caller, expect, logIn, mintToken, startWorker, uuidV7 } from "../worker/harness.mjs";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const { SCHEMATHESIS, FUZZ_EXAMPLES, FUZZ_SECONDS, FUZZ_SEED, FUZZ_WORKERS } = process.env;
if (SCHEMATHESIS === undefined) throw new Error("SCHEMATHESIS is not set: run `make test-schema` or `make fuzz`");

const LOGS_KEPT_MS = 10_000;
const KPI = { name: "speed", target: 10, unit: "ms", direction: "lower" };
// A tenant holds at most 100 partnerships.
const FEW = 6;
const MANY = 90;
const CHAIN_MS = 30_000;
const PASSWORD = "the first passphrase of a person";

const worker = await startWorker();
const admin = await logIn(worker);
// A set of backups, which no request can make by itself: the cron job writes it.
await worker.scheduled("37 * * * *");
const desk = await openDesk(admin);
// Hypothesis and Schemathesis leave files in the folder they run in.
const folder = mkdtempSync(join(tmpdir(), "worker-fuzz-"));

// A long run writes more lines than memory holds; those of the Worker's own failures are kept.
const failures = [];
const sweep = () => {
  failures.push(...worker.logs().map(({ message }) => message).filter((line) => line.includes('"log.level":"error"')));
  worker.clearLogs();
};
const sweeper = setInterval(sweep, LOGS_KEPT_MS);

const options = [
  ...["--checks", "all"],
  ...(FUZZ_EXAMPLES ? ["--max-examples", FUZZ_EXAMPLES] : []),
  ...(FUZZ_SECONDS ? ["--max-time", FUZZ_SECONDS] : []),
  ...(FUZZ_SEED ? ["--seed", FUZZ_SEED] : []),
  ...["--workers", FUZZ_WORKERS || "1"],
];
const document = new URL("/openapi.json", worker.url).href;
const run = spawn(SCHEMATHESIS, ["--config-file", here("schemathesis.toml"), "run", document, ...options, ...process.argv.slice(2)], {
  cwd: folder,
  stdio: ["ignore", "inherit", "inherit"],
  env: { ...process.env, SCHEMATHESIS_HOOKS: here("hooks.py"), FUZZ_DESK: desk.url, PYTHONDONTWRITEBYTECODE: "1" },
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => run.kill(signal));
const [code] = await once(run, "exit");

clearInterval(sweeper);
sweep();
for (const line of failures.slice(0, 20)) console.error(`The Worker's log: ${line}`);
await desk.close();
await worker.close();
rmSync(folder, { recursive: true, force: true });
process.exitCode = code ?? 1;

/**
 * Where hooks.py gets what a client knows beside the document: GET /token?id=… is a fresh access token of an admin,
 * GET /person?role=… makes a user: { id, username, password }. GET /more sees to it that a run that retires partnerships
 * goes on finding some, GET /fewer that one that adds them does not stay at their limit. GET /made?for=… makes what an
 * operation can delete: its path parameters. GET /fact names a live fact.
 *
 * Tokens are minted and not fetched by logins: one for each request, so that none expires in a long run, and none was
 * issued before a request that withdrew the tokens of its user.
 */
async function openDesk(admin) {
  const tenant = expect(await admin.get(`${AUTH}/me`), 200).tenant_id;
  const token = (id, role) => mintToken({ claims: { sub: id, tid: tenant, role } });

  async function person(role) {
    const user = { username: `person-${uuidV7(Date.now())}`, password: PASSWORD, role };
    const { id } = expect(await asBoss().post(`${AUTH}/users`, user), 201);
    return { id, ...user };
  }
  const asBoss = () => caller(worker, token(boss, "admin"));
  const partnerships = async () => expect(await asBoss().get(`${API}/partnerships`), 200);

  async function more() {
    if ((await partnerships()).length >= FEW) return;
    const id = `made_${randomBytes(8).toString("hex")}`;
    const body = { id, name: "Made", partner: "Maker", kpis: [KPI], deliverables: [{ key: "first" }] };
    expect(await asBoss().post(`${API}/partnerships`, body), 201);
  }

  /** Retires old ones: a chain of requests that has just added one still wants it. */
  async function fewer() {
    const known = await partnerships();
    if (known.length < MANY) return;
    const old = known.filter(({ created_at }) => Date.now() - Date.parse(created_at) > CHAIN_MS);
    for (const { id } of old.slice(FEW)) expect(await asBoss().delete(`${API}/partnerships/${id}`), 204);
  }

  async function made(operation) {
    const [{ id }] = await partnerships();
    const path = `${API}/partnerships/${id}`;
    if (operation === "delete_slo") {
      const key = `made_${randomBytes(8).toString("hex")}`;
      const slo = { key, kind: "availability", target_percent: 99, period_days: 7 };
      expect(await asBoss().post(`${path}/slos`, slo), 201);
      return { id, key };
    }
    const weekly = { days: ["sunday"], start: "02:30", minutes: 90, time_zone: "UTC" };
    const { id: window } = expect(await asBoss().post(`${path}/maintenance`, { name: "Made", weekly }), 201);
    return { id, window };
  }

  // The admin of the first start is in every list of users, so a run may disable him: those who ask are others.
  let boss = expect(await admin.get(`${AUTH}/me`), 200).id;
  const admins = [await person("admin"), await person("admin")].map(({ id }) => id);
  boss = admins[0];

  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://desk");
    try {
      const role = searchParams.get("role");
      const answer = {
        "/admins": () => admins,
        "/token": () => token(searchParams.get("id"), role),
        "/person": () => person(role),
        "/made": () => made(searchParams.get("for")),
        "/fact": async () => `${(await partnerships())[0].id}.score`,
        "/more": more,
        "/fewer": fewer,
      }[pathname];
      response.end(JSON.stringify((await answer()) ?? null));
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  return { url: `http://127.0.0.1:${port}`, close: () => new Promise((resolve) => server.close(resolve)) };
}
