// Watches what a Worker says in the course of a test file. Every reply that `caller` saw and every log line is looked
// through when the Worker is closed, for what tests/canaries.json forbids and for each secret that was known or sent;
// and each log line for the fields (Elastic Common Schema) that a line of its kind must have.
import { readFileSync } from "node:fs";

const RULES = JSON.parse(readFileSync(new URL("../canaries.json", import.meta.url), "utf8"));
const compiled = (list) => list.map(({ what, pattern }) => ({ what, pattern: new RegExp(pattern, "g") }));
const ANYWHERE = compiled(RULES.anywhere);
const IN_REPLIES = compiled(RULES.replies);
const [HANDS_OUT, COMPILED_IN, FILES_OF_OTHERS] = ["hands_out_secrets", "compiled_in", "files_of_others"].map((name) => new RegExp(RULES[name]));
const LOG_LINE_START = new RegExp(RULES.log_line_start);
const fields = (map) => Object.entries(map).map(([name, pattern]) => ({ name, pattern: new RegExp(pattern) }));
const LOG_LINES = RULES.log_lines.map(({ what, where, has }) => ({ what, where: fields(where), has: fields(has) }));
// Lines that workerd itself writes, about its own end of things.
const OF_THE_RUNTIME = /^NOSENTRY /;
const MIN_TOKEN_PART_CHARS = 20;
const MAX_TOLD_CHARS = 300;

export class Canary {
  #secrets = new Set();
  /** What clients wrote where no secret belongs: a reply may quote it. */
  #said = "";
  #replies = [];
  #lines = [];

  /** @param known  the secrets that the Worker was started with */
  constructor(known) {
    for (const secret of known) this.#keep(secret.replace(/^(dev|ed25519):/, ""));
  }

  /** A request and its reply, both as texts; the body that was sent may be anything. */
  saw(method, path, sent, reply) {
    const bearer = /^Bearer (\S+)$/i.exec(new Headers(sent.headers).get("authorization") ?? "")?.[1];
    if (bearer) this.#keepToken(bearer);
    this.#say(decodedOrRaw(path));
    this.#keepFields(typeof sent.body === "string" ? fieldsOf(sent.body) : sent.body);

    const where = `${method} ${path.replace(/[?#].*/, "")}`;
    const handsOut = HANDS_OUT.test(where) && reply.status < 300;
    if (handsOut) this.#keepFields(reply.json);
    const headers = JSON.stringify([...reply.headers]);
    const text = handsOut || FILES_OF_OTHERS.test(where) ? headers : `${headers}\n${reply.text}`;
    this.#replies.push({ where: `${where} ${reply.status}`, text, isCompiledIn: COMPILED_IN.test(where) });
  }

  wrote(messages) {
    this.#lines.push(...messages);
  }

  /** Whether each request that was seen has its line in the log. */
  hasAllLines(messages) {
    const last = this.#replies.at(-1)?.text.match(/"x-request-id","([^"]*)"/)?.[1];
    return last === undefined || messages.some((message) => message.includes(`"http.request.id":"${last}"`));
  }

  /** What should not have been said, one line each. */
  found() {
    const found = [];
    const tell = (what, where, text, at) => found.push(`${what} in ${where}: …${text.slice(Math.max(0, at - 60), at + MAX_TOLD_CHARS)}…`);
    const search = (rules, { where, text }, said) => {
      for (const { what, pattern } of rules) {
        const hit = [...text.matchAll(pattern)].find(([match]) => !said.includes(match));
        if (hit) tell(what, where, text, hit.index);
      }
    };
    const searchSecrets = ({ where, text }, said) => {
      for (const secret of this.#secrets) {
        const at = text.indexOf(secret);
        if (at >= 0 && !said.includes(secret)) tell("a secret of this Worker or test", where, text, at);
      }
    };
    for (const reply of this.#replies) {
      search(ANYWHERE, reply, "");
      search(IN_REPLIES, reply, this.#said);
      if (!reply.isCompiledIn) searchSecrets(reply, this.#said);
    }
    for (const text of this.#lines) {
      search(ANYWHERE, { where: "a log line", text }, "");
      searchSecrets({ where: "a log line", text }, "");
    }
    for (const line of this.#lines.filter((line) => !OF_THE_RUNTIME.test(line))) {
      // One object a line: text from outside is escaped, and cut.
      const texts = Object.values(objectOf(line) ?? { line }).filter((value) => typeof value === "string");
      if (objectOf(line) === undefined || /[\u0000-\u001f]/.test(line)) tell("raw text", "a log line", line, 0);
      if (texts.some((text) => [...text].length > RULES.longest_log_text)) tell("uncut text", "a log line", line, 0);
      if (!LOG_LINE_START.test(line)) tell("another start", "a log line", line, 0);
      const fits = ({ name, pattern }) => pattern.test(objectOf(line)?.[name] ?? "");
      for (const { what, where, has } of LOG_LINES.filter(({ where }) => where.every(fits))) {
        for (const { name } of has.filter((field) => !fits(field))) tell(`no ${name}, or another form of it`, `a ${what}`, line, 0);
      }
    }
    return [...new Set(found)];
  }

  #keepFields(value) {
    if (typeof value === "string") this.#say(value);
    if (typeof value !== "object" || value === null) return;
    for (const [name, inner] of Object.entries(value)) {
      if (typeof inner === "string" && RULES.secret_fields.includes(name)) this.#keepToken(inner);
      else this.#keepFields(inner);
    }
  }

  #say(text) {
    this.#said += `${text}\n`;
  }

  /** A token's parts are as secret as the whole, save its header, which says nothing. */
  #keepToken(text) {
    this.#keep(text);
    const parts = text.split(".");
    if (parts.length === 3) parts.slice(1).filter(({ length }) => length >= MIN_TOKEN_PART_CHARS).forEach((part) => this.#keep(part));
  }

  #keep(secret) {
    if (secret.length >= RULES.shortest_secret) this.#secrets.add(secret);
  }
}

function fieldsOf(body) {
  return objectOf(body) ?? Object.fromEntries(new URLSearchParams(body));
}

function decodedOrRaw(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

function objectOf(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
