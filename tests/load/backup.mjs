// A backup at size, on the real runtime: `make bench-backup`. Fills 1,000,000 observations (through the API, 500 at a
// time) and 100,000 decisions (straight into D1), backs up, restores into a second environment, and prints what it
// took. OBSERVATIONS=… and DECISIONS=… change the size.
import { mkdirSync, writeFileSync } from "node:fs";
import { API, expect, logIn, networkFailure, startWorker, uuidV7 } from "../worker/harness.mjs";

const OBSERVATIONS = Number(process.env.OBSERVATIONS ?? 1_000_000);
const DECISIONS = Number(process.env.DECISIONS ?? 100_000);
const BATCH = 500;
const IN_FLIGHT = 4;
const TICK = "* * * * *";
const BACKUP = "37 * * * *";
const HOUR_MS = 3_600_000;

const lines = [];
const say = (line) => (console.log(line), lines.push(line));
const seconds = (from) => `${((performance.now() - from) / 1_000).toFixed(1)} s`;
const millions = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

const outbound = () => networkFailure();
const source = await startWorker({ outbound });
let from = performance.now();
let admin = await logIn(source);
await source.scheduled(TICK);
const known = expect(await admin.get(`${API}/partnerships`), 200).map(({ id }) => id);
const start = Date.now() - 40 * HOUR_MS;
const step = (40 * HOUR_MS) / OBSERVATIONS;
let next = 0;
await Promise.all(
  Array.from({ length: IN_FLIGHT }, async () => {
    while (next < OBSERVATIONS) {
      const first = next;
      next += BATCH;
      const rows = Array.from({ length: Math.min(BATCH, OBSERVATIONS - first) }, (_, n) => ({
        at: new Date(start + Math.floor((first + n) * step)).toISOString(),
        outcome: (first + n) % 97 === 0 ? "down" : "up",
        ...((first + n) % 97 !== 0 && { latency_ms: 50 + ((first + n) * 7919) % 900 / 7 }),
        source: `gateway-${(first + n) % 3}`,
      }));
      const id = known[(first / BATCH) % known.length];
      const reply = await admin.post(`${API}/partnerships/${id}/observations`, rows);
      if (reply.status === 401) admin = await logIn(source);
      else if (expect(reply, 202).accepted !== rows.length) throw new Error(reply.text);
    }
  }),
);
say(`${OBSERVATIONS} observations pushed in ${seconds(from)}`);

from = performance.now();
const reply = JSON.stringify({ decision: "approve", confidence: 0.5, filler: "x".repeat(300) });
for (let done = 0; done < DECISIONS; done += 1_000) {
  const rows = Array.from({ length: Math.min(1_000, DECISIONS - done) }, (_, n) => [`dec_${uuidV7(start + done + n)}`, start + done + n]);
  await source.env.DB.prepare(
    `INSERT INTO decisions (id, tenant_id, kind, decision, inputs, reply, author_id, created_at)
     SELECT value ->> 0, 'ten_default', 'appraisal', 'approve', '{"title":"filler"}', ?2, 'system', value ->> 1 FROM json_each(?1)`,
  ).bind(JSON.stringify(rows), reply).run();
}
say(`${DECISIONS} decisions inserted in ${seconds(from)}`);

admin = await logIn(source);
from = performance.now();
await source.scheduled(BACKUP);
const written = seconds(from);
const { backups: [set] } = expect(await admin.get(`${API}/backups`), 200);
if (set === undefined) throw new Error(JSON.stringify([await source.rows("SELECT * FROM job_runs WHERE job = 'backup'"), source.logs().slice(-3)]));
say(`backed up in ${written}: ${set.rows} rows, ${set.files} files, ${millions(set.bytes)}`);
const memory = async (worker, caller) => expect(await caller.get(`${API}/status`), 200).resource_usage.wasm_memory_bytes;
say(`WebAssembly memory afterwards (it never shrinks; all objects and routes of this process share it): ${millions(await memory(source, admin))}`);

from = performance.now();
let state;
do state = expect(await admin.post(`${API}/backups/${set.id}/verify`), 200);
while (state.finished_at === null);
say(`verified in ${seconds(from)}, defects: ${state.defects.length}`);

const target = await startWorker({ outbound });
let cursor;
do {
  const page = await source.env.BACKUPS.list({ cursor });
  for (const { key } of page.objects) await target.env.BACKUPS.put(key, await (await source.env.BACKUPS.get(key)).arrayBuffer());
  cursor = page.truncated ? page.cursor : undefined;
} while (cursor !== undefined);
await source.close();

admin = await logIn(target);
from = performance.now();
let steps = 0;
do {
  state = expect(await admin.post(`${API}/backups/${set.id}/restore`), 200);
  steps += 1;
} while (state.drill === null);
say(`restored in ${seconds(from)}, ${steps} requests: ${state.drill.rows} rows, each counted against the manifest (promise: under an hour)`);
say(`WebAssembly memory afterwards: ${millions(await memory(target, await logIn(target)))}`);
await target.close();

mkdirSync(new URL("results/", import.meta.url), { recursive: true });
writeFileSync(new URL("results/backup.txt", import.meta.url), `${lines.join("\n")}\n`);
