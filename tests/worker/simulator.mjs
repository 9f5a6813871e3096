// Plays the partners: one HTTP server on loopback for each, whose behaviour can be changed while it runs.
//
//   const partners = await startSimulator();
//   partners.url("cursor")                                           // http://127.0.0.1:PORT/cursor
//   partners.set("cursor", { scenario: "slow", delayMs: 300 });      // from the next request on
//   await partners.set("cursor", { scenario: "refused" });           // its port is closed now, or open again
//   partners.set(statusPage("cursor"), { scenario: "status_page", indicator: "major" });
//   partners.hits("cursor")                                          // requests seen on this path
//   await partners.last("cursor").done                               // "answered", "client_left" or "cut"
//   await partners.close();
//
// A behaviour belongs to a path, named without its leading slash, whose first part is the partner. A path
// that has none of its own behaves as its partner does, except the status page: it is up, and says "none",
// until it is told otherwise, since a page often stands while the service behind it is down. Only `refused`
// is of the whole partner: a port is open for every path or for none.
import { once } from "node:events";
import { createServer } from "node:http";

const NAMES = ["cursor", "grok", "gemini", "chatgpt", "claude", "perplexity", "control_a", "control_b"];
const PAGE_PATH = "api/v2/summary.json";
// `big` never ends by itself; this keeps a client that never stops reading from taking all memory and time.
const MAX_BIG_BYTES = 256 * 1024 * 1024;
const CHUNK = Buffer.alloc(64 * 1024, "x");
const REQUESTS_KEPT = 100;

/** The path of a partner's status page, where Statuspage has it. */
export const statusPage = (name) => `${name}/${PAGE_PATH}`;

const json = (status, value, headers = {}) => (response) =>
  end(response, status, JSON.stringify(value), { "content-type": "application/json", ...headers });

/** What each scenario does with a response, given the options it was set with. `delayMs` works with all of them. */
const SCENARIOS = {
  healthy: () => json(200, { ok: true }),
  // An answer that is right but late.
  slow: () => json(200, { ok: true }),
  error: ({ status = 500 }) => json(status, { error: "internal error" }),
  throttled: ({ retryAfter = 30 }) => json(429, { error: "too many requests" }, { "retry-after": String(retryAfter) }),
  // What a healthy API says to a call without a credential.
  unauthorized: () => json(401, { error: "missing credential" }, { "www-authenticate": "Bearer" }),
  // The target is a path of its own, so that its hits tell whether somebody followed.
  redirect: ({ name, location = `/${name}/redirected` }) => (response) => end(response, 302, "", { location }),
  hanging: () => () => {},
  cut: ({ at = "headers" }) => (response) => cut(response, at),
  big: ({ maxBytes = MAX_BIG_BYTES }) => (response) => stream(response, maxBytes),
  status_page: (options) => json(200, statusPageOf(options)),
  malformed: () => (response) => {
    end(response, 200, JSON.stringify(statusPageOf({})).slice(0, 60), { "content-type": "application/json" });
  },
  // Right in form, but nobody has touched it for a year.
  stale: (options) => json(200, statusPageOf({ updatedAt: new Date(Date.now() - 365 * 24 * 3600_000), ...options })),
  refused: () => (response) => response.socket.destroy(),
};

const DESCRIPTIONS = {
  none: "All Systems Operational",
  minor: "Minor Service Outage",
  major: "Partial System Outage",
  critical: "Major Service Outage",
};

function statusPageOf({ indicator = "none", name = "partner", updatedAt = new Date() }) {
  const fine = indicator === "none";
  return {
    page: { id: name, name, url: `https://status.${name}.example`, time_zone: "Etc/UTC", updated_at: updatedAt.toISOString() },
    status: { indicator, description: DESCRIPTIONS[indicator] ?? indicator },
    components: [
      { id: "api", name: "API", status: fine ? "operational" : "partial_outage", group: false },
      { id: "web", name: "Web", status: "operational", group: false },
    ],
    incidents: fine ? [] : [{ id: "incident", name: "Errors", status: "investigating", impact: indicator }],
    scheduled_maintenances: [],
  };
}

/** @param options.names  the partners to play */
export async function startSimulator({ names = NAMES } = {}) {
  const partners = new Map();
  for (const name of names) partners.set(name, await startPartner(name));

  function find(path) {
    const partner = partners.get(path.split("/")[0]);
    if (partner === undefined) throw new Error(`the simulator does not play "${path}"; it plays ${names.join(", ")}`);
    return partner;
  }
  return {
    names,
    url: (path) => find(path).origin + path,
    /** From the next request on. Resolves when it is so: at once, except to and from `refused`. */
    set: (path, behaviour) => find(path).set(path, behaviour),
    /** How many requests came for this very path (for a partner's name: its own path, not those below). */
    hits: (path) => find(path).seen(path).count,
    /** { path: hits } of everything that was asked for. */
    allHits: () => Object.fromEntries([...partners.values()].flatMap((partner) => partner.counts())),
    /** The newest request on this path: { method, headers, at, scenario, bytes, done }. */
    last: (path) => find(path).seen(path).requests.at(-1),
    /** The last hundred requests on this path, the oldest first. */
    requests: (path) => find(path).seen(path).requests,
    /** Forgets what was seen; behaviours stay. */
    forget: () => partners.forEach((partner) => partner.forget()),
    close: () => Promise.all([...partners.values()].map((partner) => partner.close())),
  };
}

async function startPartner(name) {
  const behaviours = new Map([
    [name, { scenario: "healthy" }],
    [statusPage(name), { scenario: "status_page" }],
    [`${name}/redirected`, { scenario: "healthy" }],
  ]);
  const log = new Map();
  const server = createServer({ keepAlive: false }, answer);
  await listen(0);
  const { port } = server.address();

  const seen = (path) => log.get(path) ?? { count: 0, requests: [] };

  function answer(request, response) {
    const path = new URL(request.url, "http://partner").pathname.slice(1);
    const behaviour = behaviours.get(path) ?? behaviours.get(name);
    const { scenario, delayMs = 0 } = behaviour;
    const entry = {
      method: request.method,
      headers: request.headers,
      at: new Date(),
      scenario,
      get bytes() {
        return response.bytesGiven ?? 0;
      },
      done: new Promise((resolve) => {
        response.on("finish", () => resolve("answered"));
        // Comes after "finish" too, when the promise has long been settled.
        response.on("close", () => resolve(response.isCut ? "cut" : "client_left"));
      }),
    };
    const known = seen(path);
    log.set(path, known);
    known.count += 1;
    known.requests.push(entry);
    if (known.requests.length > REQUESTS_KEPT) known.requests.shift();

    request.resume();
    const act = SCENARIOS[scenario]({ name, ...behaviour });
    if (delayMs === 0) return act(response);
    const timer = setTimeout(() => act(response), delayMs);
    response.on("close", () => clearTimeout(timer));
  }

  async function set(path, behaviour) {
    const { scenario } = behaviour;
    if (!Object.hasOwn(SCENARIOS, scenario)) {
      throw new Error(`no scenario "${scenario}"; there are ${Object.keys(SCENARIOS).join(", ")}`);
    }
    if (scenario === "refused" && path !== name) throw new Error(`"refused" is of a partner, not of the path ${path}`);
    behaviours.set(path, behaviour);
    if (path !== name) return;
    if (scenario === "refused") await shut();
    else if (!server.listening) await listen(port); // the same port: its URLs stay what they were
  }

  async function listen(onPort) {
    server.listen(onPort, "127.0.0.1");
    await once(server, "listening");
  }

  async function shut() {
    if (!server.listening) return;
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections(); // a hanging client would keep it open
    await closed;
  }

  return {
    origin: `http://127.0.0.1:${port}/`,
    set,
    seen,
    counts: () => [...log].map(([path, { count }]) => [path, count]),
    forget: () => log.clear(),
    close: shut,
  };
}

function end(response, status, body, headers = {}) {
  // One request a connection: what one scenario does to a connection cannot reach the next request.
  response.writeHead(status, { connection: "close", "content-length": Buffer.byteLength(body), ...headers });
  response.end(body);
}

/** Breaks the connection `at` "headers" or "body", when half of them has left. */
function cut(response, at) {
  const { socket } = response;
  const destroy = () => socket.destroy();
  response.isCut = true;
  if (at === "body") {
    response.writeHead(200, { connection: "close", "content-type": "application/json", "content-length": 1000 });
    response.write('{"page":', destroy);
  } else if (at === "headers") {
    socket.write("HTTP/1.1 200 OK\r\ncontent-type: appl", destroy);
  } else {
    destroy();
  }
}

/** Sends until the client has had enough. `bytes` of the request tells how much was handed to the connection. */
function stream(response, maxBytes) {
  response.writeHead(200, { connection: "close", "content-type": "application/octet-stream" });
  response.bytesGiven = 0;
  const pump = () => {
    while (!response.destroyed && response.bytesGiven < maxBytes) {
      response.bytesGiven += CHUNK.length;
      if (!response.write(CHUNK)) return response.once("drain", pump);
    }
    if (!response.destroyed) response.end();
  };
  pump();
}
