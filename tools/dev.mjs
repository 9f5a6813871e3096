// The local server: `wrangler dev` plus the clock that Cloudflare would be.
// `wrangler dev` never fires a cron by itself, so this script asks it to, on the minute, until Ctrl-C.
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { unstable_readConfig as readConfig } from "wrangler";

const ORIGIN = "http://127.0.0.1:8787";
const MINUTE_MS = 60_000;
const STARTUP_MS = 60_000;

// The schedules of wrangler.toml, each as a test of the minute. "*" or a number for the minute and "*" for
// the rest is all we use; another form must be taught here before it can tick locally.
const schedules = readConfig({ config: "wrangler.toml" }).triggers.crons.map((cron) => {
  const minute = /^(\*|\d+) \* \* \* \*$/.exec(cron)?.[1];
  if (minute === undefined) throw new Error(`tools/dev.mjs cannot tell when "${cron}" is due`);
  return { cron, isDue: (at) => minute === "*" || Number(minute) === at.getUTCMinutes() };
});

// No terminal on standard input: wrangler would take single keys as commands.
const server = spawn("wrangler", ["dev", "--ip", "127.0.0.1", "--port", "8787", "--test-scheduled"], {
  stdio: ["ignore", "inherit", "inherit"],
});
const stop = new AbortController();
server.on("error", (error) => {
  console.error(`cannot start wrangler: ${error.message} (use \`make dev\`)`);
  process.exitCode = 1;
  stop.abort();
});
let isAskedToStop = false;
server.on("exit", (code) => {
  // Not asked: it ended by itself (port taken, bad configuration).
  process.exitCode = isAskedToStop ? 0 : (code ?? 1);
  stop.abort();
});
// Ctrl-C reaches wrangler too (same terminal); a plain kill reaches only us. Either way it shuts down first.
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    isAskedToStop = true;
    server.kill(signal);
  });
}

try {
  await ready();
  console.log(howToLogIn());
  await fire(schedules); // at once, so that the first figures need no minute of waiting
  for (;;) {
    await sleep(MINUTE_MS - (Date.now() % MINUTE_MS), undefined, { signal: stop.signal });
    const now = new Date();
    await fire(schedules.filter((schedule) => schedule.isDue(now)));
  }
} catch (error) {
  if (!stop.signal.aborted) throw error;
}

async function ready() {
  const deadline = Date.now() + STARTUP_MS;
  while (Date.now() < deadline) {
    try {
      return await fetch(ORIGIN, { signal: stop.signal }); // any answer will do
    } catch {
      await sleep(200, undefined, { signal: stop.signal });
    }
  }
  server.kill("SIGTERM");
  throw new Error(`no answer from ${ORIGIN} within ${STARTUP_MS / 1000} s`);
}

async function fire(due) {
  for (const { cron } of due) {
    try {
      await fetch(`${ORIGIN}/__scheduled?cron=${encodeURIComponent(cron)}`, { signal: stop.signal });
    } catch (error) {
      // The server reloads when the Worker is built again: this tick is lost, the next one comes.
      if (!stop.signal.aborted) console.error(`cron "${cron}" was not delivered: ${error.message}`);
    }
  }
}

function howToLogIn() {
  return `
Ready on ${ORIGIN} (Ctrl-C stops it). In another terminal:

  PASSWORD=$(sed -n 's/^BOOTSTRAP_ADMIN_PASSWORD="\\(.*\\)"$/\\1/p' .dev.vars)
  TOKEN=$(curl -s ${ORIGIN}/api/v1/auth/login -H 'content-type: application/json' \\
    -d "{\\"username\\":\\"admin\\",\\"password\\":\\"$PASSWORD\\"}" | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')
  curl -s ${ORIGIN}/api/v1/orchestration/health -H "authorization: Bearer $TOKEN"

  Documentation: ${ORIGIN}/docs
`;
}
