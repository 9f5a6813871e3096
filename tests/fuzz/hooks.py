"""What Schemathesis has to know beside the OpenAPI document.

Who is asking; what no schema can say (rules that join two fields, or a field
and the clock, or a field and what the client knows); and checks of our own on
every reply. A request that the document calls valid is made valid here too,
and then has to be accepted. The refusals that these rules lead to have tests
of their own (tests/api).
"""

import copy
import json
import os
import re
import threading
import urllib.request
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import jsonschema_rs
import schemathesis
from hypothesis import strategies as st

DESK = os.environ["FUZZ_DESK"]


def desk(path):
    with urllib.request.urlopen(DESK + path) as answer:
        return json.load(answer)


def operation_id(case):
    return case.operation.definition.raw.get("operationId")


# ---- who is asking -----------------------------------------------------------

ADMIN, SECOND_ADMIN = desk("/admins")


class Person:
    """A user whose password is known, made anew where a run has spoiled him."""

    def __init__(self):
        self.lock = threading.Lock()
        self.known = None

    def get(self):
        with self.lock:
            if self.known is None:
                self.known = desk("/person?role=viewer")
            return self.known

    def forget(self):
        with self.lock:
            self.known = None


VISITOR = Person()
# Requests of several workers would change one person's password at the same
# time, and each ends what the other knows.
OWN = threading.local()


def owner():
    if not hasattr(OWN, "person"):
        OWN.person = Person()
    return OWN.person


@schemathesis.auth(refresh_interval=None)
class AccessToken:
    def get(self, case, context):
        if operation_id(case) == "change_password":
            return desk(f"/token?role=viewer&id={owner().get()['id']}")
        # An admin may neither disable himself nor give up his role.
        own = (case.path_parameters or {}).get("id") == ADMIN
        return desk(f"/token?role=admin&id={SECOND_ADMIN if own else ADMIN}")

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Bearer {data}"


# ---- what no schema can say --------------------------------------------------

# The policy for addresses is about names (src/domain/probe_url.rs).
schemathesis.openapi.format(
    "probe-url",
    st.builds(
        lambda host, port, path: f"https://{host}.com{port}/{quote(path)}",
        st.from_regex(r"[a-z][a-z0-9]{0,20}(\.[a-z0-9]{1,10})?", fullmatch=True),
        st.sampled_from(["", ":443", ":8443"]),
        st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20),
    ),
)
# As the document: of the years 1970 to 9999.
schemathesis.openapi.format("date", st.dates(min_value=datetime(1970, 1, 1).date()).map(str))


@schemathesis.hook
def before_call(context, case, kwargs):
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    repair = REPAIRS.get(operation_id(case))
    if is_valid and repair is not None and isinstance(case.body, dict | list):
        repair(case)
    if is_valid:
        know_the_page(case)
        find_something(case)
    # After the repair: a key belongs to the body that is sent.
    note_idempotency_key(case, is_valid)


def know_the_page(case):
    """Only the list itself knows what a cursor of it looks like: one that was
    made up is left out, one that a reply named stays."""
    cursor = (case.query or {}).get("cursor")
    if isinstance(cursor, str) and cursor not in CURSORS:
        del case.query["cursor"]


FOUND = {"delete_slo": [], "delete_maintenance": []}


def find_something(case):
    """Of what only a chain of three requests would find, every second request
    finds one."""
    asked = FOUND.get(operation_id(case))
    if asked is None:
        return
    asked.append(None)
    if len(asked) % 2 == 0:
        case.path_parameters = desk(f"/made?for={operation_id(case)}")


CURSORS = set()


BODIES = {}


def note_idempotency_key(case, is_valid):
    """A key that came with another body is refused by design; a valid request
    gets a new one instead."""
    header = (case.headers or {}).get("Idempotency-Key")
    if not isinstance(header, str):
        return
    body = json.dumps(case.body, sort_keys=True, default=str)
    # As the service reads it: quoted or bare, it is the same key.
    key = header.strip()
    if key.startswith('"') and key.endswith('"'):
        key = re.sub(r"\\(.)", r"\1", key[1:-1])
    if BODIES.setdefault((operation_id(case), key), body) != body and is_valid:
        case.headers["Idempotency-Key"] = fresh = f"key-{len(BODIES)}"
        BODIES[operation_id(case), fresh] = body


def move_times_to_now(case):
    """What was measured must be of the last days."""
    now = datetime.now(UTC)
    for row in case.body if isinstance(case.body, list) else [case.body]:
        if not is_recent(row["at"], now):
            age = timedelta(seconds=zlib.crc32(row["at"].encode()) % (47 * 3600))
            row["at"] = (now - age).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_recent(text, now):
    try:
        at = datetime.fromisoformat(text)
        return timedelta(seconds=-30) < now - at < timedelta(hours=47)
    except (TypeError, ValueError):
        return False


def public(url):
    """The address, or one as long that the policy takes."""
    return url if PUBLIC.match(url) else "https://example.com/".ljust(len(url), "a")


PUBLIC = re.compile(r"https://[a-z][a-z0-9]*(\.[a-z0-9]+)?\.com(:8?443)?/")


def make_terms_fit(case):
    """The floor is below the target, names differ within a list and from the
    id, and addresses are public."""
    body = case.body
    names = ("availability_floor_percent", "availability_target_percent")
    if any(body.get(name) is not None for name in names):
        floor, target = (body.get(name) for name in names)
        floor, target = sorted((95 if floor is None else floor, 99.9 if target is None else target))
        if floor == target:
            floor, target = (0, target) if target > 0 else (0, 100)
        body.update(zip(names, (floor, target), strict=True))
    if body.get("status_page_url"):
        body["status_page_url"] = public(body["status_page_url"])
    for probe in body.get("probes") or []:
        probe["url"] = public(probe["url"])
    for field, key in (("probes", "key"), ("kpis", "name"), ("deliverables", "key")):
        if body.get(field):
            body[field] = list({entry[key]: entry for entry in body[field]}.values())
    if body.get("aliases"):
        taken = {body.get("id"), (case.path_parameters or {}).get("id")}
        body["aliases"] = [alias for alias in body["aliases"] if alias not in taken]


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")


def make_maintenance_come(case):
    """What happens once begins now or later and ends after that; a weekly one
    is by the clock of a place that there is."""
    once, weekly = case.body.get("once"), case.body.get("weekly")
    if once:
        starts_at = datetime.now(UTC) + timedelta(minutes=1)
        hours = zlib.crc32(once["ends_at"].encode()) % 300 + 1
        for name, at in (("starts_at", starts_at), ("ends_at", starts_at + timedelta(hours=hours))):
            once[name] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if weekly and weekly["time_zone"] not in ZONES:
        weekly["time_zone"] = ZONES[len(weekly["time_zone"]) % len(ZONES)]


def know_the_partnership(case):
    """Only what is there can be simulated; no two objectives share a key."""
    case.body.pop("partnership", None)
    if case.body.get("slos"):
        case.body["slos"] = list({slo["key"]: slo for slo in case.body["slos"]}.values())


LOGINS = []


def know_the_password(case):
    """Every second login is that of somebody who exists."""
    LOGINS.append(None)
    if len(LOGINS) % 2 == 0:
        visitor = VISITOR.get()
        case.body.update(username=visitor["username"], password=visitor["password"])


def know_the_current_password(case):
    person = owner().get()
    body = case.body
    body["current_password"] = person["password"]
    if body["new_password"] == person["password"]:
        body["new_password"] = body["new_password"][::-1] + "."


def make_address_short(case):
    """An address is bounded in bytes and holds no blank of any alphabet."""
    email = case.body.get("email")
    if email is not None and not email.isascii():
        case.body["email"] = "".join(c if c.isascii() else "x" for c in email)


# ---- decisions and policies --------------------------------------------------

SHIPPED = json.loads((Path(__file__).parents[2] / "src/domain/decision/policy.json").read_text())
# The rules of strategies keep their names in every policy of a run, so what is
# asked by them goes on being valid.
CRITERIA = [criterion["id"] for criterion in SHIPPED["strategy"]["criteria"]]
OPTIONS = [option["id"] for option in SHIPPED["strategy"]["catalogue"]]
CONSTRAINABLE = [*CRITERIA, "cost", "duration_days"]
MOST = 1e15


def one_of(names, text):
    """The name itself if it is one, or else one that follows from it."""
    return text if text in names else names[zlib.crc32(str(text).encode()) % len(names)]


def ask_what_can_be_asked(case):
    """Names are names of something, bounds and ranges are in order, and the
    time is not over."""
    context = case.body["context"]
    if "business_goal" in context:
        context["timeframe"] = fit_timeframe(context["timeframe"])
        fit_constraints(context.get("constraints"), CONSTRAINABLE)
        if "exclude" in context:
            context["exclude"] = [one_of(OPTIONS, name) for name in context["exclude"]]
    elif "options" in context or "criteria" in context:
        fit_choice(context)
    else:
        for value in context.values():
            if isinstance(value, dict):
                value["low"], value["mode"], value["high"] = sorted(value.values())


CHOICES = []


def fit_choice(context):
    criteria = list({criterion["id"]: criterion for criterion in context["criteria"]}.values())
    options = list({option["id"]: option for option in context["options"]}.values())
    for criterion in criteria:
        criterion["bounds"] = low, high = in_order(*criterion["bounds"], MOST)
    if not any(criterion["weight"] for criterion in criteria):
        criteria[0]["weight"] = 1
    by_name = {criterion["id"]: criterion for criterion in criteria}
    # With gaps, hardly any choice would come to a decision: every second has
    # none.
    CHOICES.append(None)
    whole = len(CHOICES) % 2 == 0
    for option in options:
        named = {one_of(list(by_name), name): value for name, value in option["values"].items()}
        if whole:
            share = zlib.crc32(option["id"].encode()) % 1001 / 1000
            for name, criterion in by_name.items():
                low, high = criterion["bounds"]
                if not isinstance(named.get(name), int | float):
                    named[name] = low + (high - low) * share
        for name, value in named.items():
            low, high = by_name[name]["bounds"]
            if isinstance(value, str):
                named[name] = desk("/fact")
            elif value is not None:
                named[name] = min(max(value, low), high)
        option["values"] = named
    # More would be too much for one request.
    context["criteria"], context["options"] = criteria, options[: 400 // len(criteria)]
    if context.get("timeframe") is not None:
        context["timeframe"] = fit_timeframe(context["timeframe"])
    fit_constraints(context.get("constraints"), list(by_name))


def in_order(low, high, most):
    """Two numbers that differ, the lower one first."""
    low, high = sorted((low, high))
    if low < high:
        return [low, high]
    return [low, most] if low < most else [-most, high]


def fit_timeframe(text):
    if re.fullmatch(r"[1-9][0-9]{0,2}_days?", text):
        return text
    today, n = datetime.now(UTC).date(), zlib.crc32(text.encode()) % 1000 + 1
    forms = [
        f"Q{n % 4 + 1}_{today.year + 1}",
        f"{n}_days",
        f"{today}/P{n}D",
        f"{today}/{today + timedelta(days=n)}",
    ]
    return forms[n % len(forms)]


def fit_constraints(constraints, names):
    for constraint in constraints or []:
        constraint["criterion"] = one_of(names, constraint["criterion"])
        least, most = (constraint.get(name) for name in ("at_least", "at_most"))
        if least is None and most is None:
            constraint["at_least"] = 0
        elif least is not None and most is not None:
            constraint["at_least"], constraint["at_most"] = sorted((least, most))


# By id, of each decision that was made: kind, question and ids of its facts.
DECISIONS = {}


def note_decision(decision):
    facts = [evidence["id"] for evidence in decision["evidence"]]
    DECISIONS[decision["decision_id"]] = decision["kind"], decision["question"], facts


# What a fact of an appraisal may be.
AMOUNTS = ("expected_revenue", "revenue_impact", "customer_impact", "operational_impact")
SCALES = ("technical_complexity", "market_uncertainty", "resource_availability", "timeline_pressure")
APPRAISED = {
    "context.estimated_cost": (0.01, MOST),
    "context.estimated_days": (0.01, 3650),
    "context.revenue_period_days": (0.01, 3650),
    "context.annual_discount_rate_percent": (0, 1000),
    **{f"context.{name}": (0, MOST) for name in AMOUNTS},
    **{f"context.{name}": (0, 10) for name in SCALES},
}


def change_what_is_there(case):
    """Weights, facts and constraints are those of the decision."""
    known = DECISIONS.get((case.path_parameters or {}).get("id"))
    if known is None:
        return
    kind, question, facts = known
    body = case.body
    if kind == "appraisal":
        body.pop("weights", None)
        body.pop("constraints", None)
        names, facts = [], list(APPRAISED)
    elif kind == "choice":
        names = [criterion["id"] for criterion in question["criteria"]]
        fit_constraints(body.get("constraints"), names)
    else:
        names = CRITERIA
        fit_constraints(body.get("constraints"), CONSTRAINABLE)
    if body.get("weights"):
        weights = {one_of(names, name): weight for name, weight in body["weights"].items()}
        if not any(weights.values()):
            weights[next(iter(weights))] = 1
        body["weights"] = weights
    if body.get("facts"):
        changed = {one_of(facts, name): value for name, value in body["facts"].items()}
        limits = {**APPRAISED, "context.budget": (0.01, MOST)} if kind != "choice" else {}
        for name, (low, high) in limits.items():
            if changed.get(name) is not None:
                changed[name] = min(max(changed[name], low), high)
        body["facts"] = changed


def fit_policy(policy):
    """The rules of strategies are those that ship, with some of the generated
    numbers: names, signals and texts of a catalogue refer to each other."""
    appraisal = policy["appraisal"]
    shares = ("preparation_share", "delivery_share")
    if sum(appraisal[share] for share in shares) > 1:
        for share in shares:
            appraisal[share] /= 2
    given, fitted = policy["strategy"], copy.deepcopy(SHIPPED["strategy"])
    for criterion, like in zip(fitted["criteria"], given["criteria"], strict=False):
        criterion["direction"] = like["direction"]
        criterion["low"], criterion["high"] = in_order(like["low"], like["high"], 1e12)
    for goal, weights in given["goals"].items():
        if any(weights.values()):
            fitted["goals"][goal] = {one_of(CRITERIA, name): weight for name, weight in weights.items()}
        if not any(fitted["goals"][goal].values()):
            fitted["goals"][goal] = SHIPPED["strategy"]["goals"][goal]
    for option, like in zip(fitted["catalogue"], given["catalogue"], strict=False):
        option["cost"] = like["cost"]
        # Days without a plan would be days that nobody uses.
        option["days"] = like["days"] if option["plan"] else 0
        bases = [linear["base"] for linear in like["criteria"].values()]
        for linear, base in zip(option["criteria"].values(), bases, strict=False):
            linear["base"] = base
    policy["strategy"] = fitted


def change_a_valid_policy(case):
    """An If-Match that was made up names no state; any will do."""
    fit_policy(case.body)
    case.headers["If-Match"] = "*"


REPAIRS = {
    "decide": ask_what_can_be_asked,
    "what_if": change_what_is_there,
    "replace_policy": change_a_valid_policy,
    "rehearse_policy": lambda case: fit_policy(case.body["document"]),
    "push_kpi": move_times_to_now,
    "push_observations": move_times_to_now,
    "create_partnership": make_terms_fit,
    "change_partnership": make_terms_fit,
    "create_maintenance": make_maintenance_come,
    "simulate_alerts": know_the_partnership,
    "create_user": make_address_short,
    "login": know_the_password,
    "change_password": know_the_current_password,
}


@schemathesis.hook
def after_call(context, case, response):
    if operation_id(case) == "change_password" and response.request.method == "PUT":
        if response.status_code == 204:
            owner().get()["password"] = case.body["new_password"]
        elif response.status_code in (401, 409):
            owner().forget()
    if operation_id(case) == "decide" and response.status_code == 200:
        note_decision(response.json())
    if operation_id(case).startswith("list_") and b'"next_cursor"' in response.content:
        CURSORS.add(response.json().get("next_cursor"))
    if operation_id(case) == "retire_partnership" and response.status_code == 204:
        desk("/more")
    if operation_id(case) == "create_partnership" and response.status_code == 409:
        desk("/fewer")
    if operation_id(case) == "login" and response.status_code == 401:
        sent = case.body.get("username") if isinstance(case.body, dict) else None
        if sent == VISITOR.get()["username"]:
            VISITOR.forget()


# ---- checks of our own -------------------------------------------------------

SECURITY_HEADERS = {
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "content-security-policy",
    "cross-origin-opener-policy",
    "cross-origin-embedder-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
    "x-permitted-cross-domain-policies",
    "x-dns-prefetch-control",
    "cache-control",
    "x-request-id",
}
TALKATIVE_HEADERS = {"server", "x-powered-by", "x-xss-protection"}


@schemathesis.check
def every_reply_is_dressed(ctx, response, case):
    """Headers of every reply are there once; every refusal is a problem."""
    names = set(response.headers)
    missing = SECURITY_HEADERS - names
    assert not missing, f"headers are missing: {sorted(missing)}"
    talkative = TALKATIVE_HEADERS & names
    assert not talkative, f"headers that tell too much: {sorted(talkative)}"
    repeated = sorted(name for name, values in response.headers.items() if len(values) > 1)
    assert not repeated, f"headers that came twice: {repeated}"
    if response.status_code == 204:
        assert not response.content, "204 with a body"
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    assert response.headers["content-type"] == ["application/problem+json"], "a refusal that is no problem"
    problem = response.json()
    assert problem["status"] == response.status_code, "the problem tells another status"
    assert [problem["request_id"]] == response.headers["x-request-id"], "the problem tells another request id"
    if response.status_code == 405:
        assert response.request.method not in response.headers["allow"][0].split(", "), "Allow names the refused method"


ROWS = {}


@schemathesis.check
def rows_are_judged_one_by_one(ctx, response, case):
    """Of a batch of observations, the rows that fit the document are stored,
    and no others."""
    if operation_id(case) != "push_observations" or response.status_code != 202:
        return
    rows = json.loads(response.request.body)
    assert isinstance(rows, list) and 1 <= len(rows) <= 500, "what is no batch was accepted"
    if "validator" not in ROWS:
        components = case.operation.schema.raw_schema["components"]
        schema = {"$ref": "#/components/schemas/ObservationIn", "components": components}
        ROWS["validator"] = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    reply = response.json()
    refused = {entry["row"] for entry in reply["rejected"]}
    assert reply["accepted"] + len(refused) == len(rows), "some rows are neither accepted nor refused"
    now = datetime.now(UTC)
    for index, row in enumerate(rows):
        fits = ROWS["validator"].is_valid(row)
        if fits and is_recent(row["at"], now):
            assert index not in refused, f"row {index} fits and was refused: {reply}"
        if not fits:
            assert index in refused, f"row {index} does not fit and was accepted"


@schemathesis.check
def decisions_are_computed_alike(ctx, response, case):
    """The same evidence makes the same decision, whatever numbers it holds; a
    rehearsal leaves no decision out."""
    if response.status_code != 200:
        return
    operation = operation_id(case)
    if operation == "replay_decision":
        reply = response.json()
        assert reply["identical"] and not reply["differences"], f"a replay differs: {reply}"
    elif operation == "what_if" and not (case.body or {}):
        reply = response.json()
        assert not reply["changed"], f"nothing was changed, and yet: {reply['changed']}"
    elif operation == "rehearse_policy":
        reply = response.json()
        told = reply["unchanged"] + len(reply["changed"]) + len(reply["not_applicable"])
        assert told == reply["rehearsed"], f"some decisions are not told of: {reply}"


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """The document leaves room for fields to come; here an undocumented one is
    an error."""
    for schema in raw_schema["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
