// Fills an empty environment from a backup: `make restore FROM=…`.
//
//   FROM  the id of a set that is in the environment's bucket, or a folder with the files of one
//         (manifest.json and *.ndjson.gz, as they lie in the bucket below backups/{id}/)
//   BASE  the environment; http://127.0.0.1:8787, the local one (`make dev`), if left out
//   BACKUP_USERNAME, BACKUP_PASSWORD  its administrator; for the local one those of .dev.vars
//
// The Worker does the work, in steps, and refuses an environment that holds anything. A folder is put into the bucket
// first, with wrangler: the local one for a BASE on this machine, otherwise that of the account.
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Stop, done, orStop, step, wrangler } from "./wrangler.mjs";

const BUCKET = "devskyy-backups";
const API = "/api/v1/orchestration";
const ID = /^bak_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const { FROM, BASE = "http://127.0.0.1:8787" } = process.env;

await orStop(async () => {
  if (!FROM) throw new Stop("Which backup? make restore FROM=<id of a set, or a folder with its files>");
  const id = ID.test(FROM) ? FROM : upload(FROM);
  const admin = login();
  let token = await admin();
  step(`Restoring ${id} into ${BASE}`);
  const began = Date.now();
  let shown = -1;
  for (;;) {
    const reply = await post(`${API}/backups/${id}/restore`, undefined, token);
    if (reply.status === 401) {
      token = await admin();
      continue;
    }
    if (reply.status === 503 || (reply.status === 409 && /another request/.test(reply.body.detail))) {
      await sleep(5_000);
      continue;
    }
    if (reply.status !== 200) throw new Stop(`${reply.status}: ${reply.body.detail ?? "no reason given"}`);
    const { files, files_restored: files_done, rows_restored: rows, drill } = reply.body;
    if (files_done !== shown) done(`${files_done} of ${files} files, ${rows} rows`);
    shown = files_done;
    if (drill === null) continue;
    done(`every row counted against the manifest: ${drill.rows} in ${((Date.now() - began) / 1_000).toFixed(1)} s`);
    done("users, passwords and keys are those of the backup now");
    return;
  }
});

/** Puts the files of a folder into the bucket, the manifest last; the set's id. */
function upload(folder) {
  const path = join(folder, "manifest.json");
  if (!existsSync(path) || !statSync(folder).isDirectory()) throw new Stop(`${folder} is neither the id of a set nor a folder with a manifest.json.`);
  const { id, files } = JSON.parse(readFileSync(path, "utf8"));
  if (!ID.test(id)) throw new Stop(`${path} names no set.`);
  const missing = files.filter(({ name }) => !readdirSync(folder).includes(`${name}.ndjson.gz`));
  if (missing.length > 0) throw new Stop(`${folder} lacks ${missing.map(({ name }) => `${name}.ndjson.gz`).join(", ")}`);
  step(`Uploading ${files.length} files`);
  const where = ["127.0.0.1", "localhost", "[::1]"].includes(new URL(BASE).hostname) ? "--local" : "--remote";
  for (const name of [...files.map(({ name }) => `${name}.ndjson.gz`), "manifest.json"]) {
    wrangler(["r2", "object", "put", `${BUCKET}/backups/${id}/${name}`, "--file", join(folder, name), where]);
  }
  done(`in the bucket, ${where.slice(2)}`);
  return id;
}

function login() {
  const local = existsSync(".dev.vars") ? readFileSync(".dev.vars", "utf8") : "";
  const of = (name) => new RegExp(`^${name}="?([^"\n]*)"?$`, "m").exec(local)?.[1];
  const username = process.env.BACKUP_USERNAME ?? of("BOOTSTRAP_ADMIN_USERNAME");
  const password = process.env.BACKUP_PASSWORD ?? of("BOOTSTRAP_ADMIN_PASSWORD");
  if (!username || !password) throw new Stop("Who? Set BACKUP_USERNAME and BACKUP_PASSWORD to the administrator's login.");
  return async () => {
    const reply = await post("/api/v1/auth/login", { username, password });
    if (reply.status !== 200) throw new Stop(`The login was refused (${reply.status}): ${reply.body.detail}`);
    return reply.body.access_token;
  };
}

async function post(path, body, token) {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  try {
    const response = await fetch(BASE + path, { method: "POST", headers, ...(body && { body: JSON.stringify(body) }) });
    const text = await response.text();
    return { status: response.status, body: text.startsWith("{") ? JSON.parse(text) : {} };
  } catch (error) {
    throw new Stop(`${BASE} does not answer (${error.cause?.code ?? error.message}). For the local one: make dev, in another terminal.`);
  }
}
