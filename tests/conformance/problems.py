"""Random decision problems with the results of another implementation, pymcdm: writes problems.json beside it.

Run by `make conformance`. The same seed gives the same file:

  CONFORMANCE_SEED      what the problems follow from
  CONFORMANCE_PROBLEMS  how many

A problem: `types` (1 a benefit, -1 a cost), `weights`, `bounds` (the least and the most that SPOTIS counts with), `rows`
(a row an option), and by method one number an option: `spotis` the distance D, `wsm` the weighted sum of values between
the worst and the best of the options, `topsis` the closeness of vectors of length 1.

What pymcdm cannot do is left out, and nothing is put in its place: where a problem has one option, options that are all
equal (by what has a weight), or a criterion with zeros only, its TOPSIS divides 0 by 0, and `topsis` is null.
"""

import json
import math
import os
import random
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pymcdm.methods import SPOTIS, TOPSIS, WSM
from pymcdm.normalizations import minmax_normalization, vector_normalization

SEED = int(os.environ.get("CONFORMANCE_SEED") or 20260131)
PROBLEMS = int(os.environ.get("CONFORMANCE_PROBLEMS") or 640)

# Of each kind as many; see `problem`.
KINDS = ["plain", "rounded", "equal_columns", "equal_options", "at_bounds", "negative", "close", "no_weight", "all_equal"]


def bounds_of(kind, chance):
    scale = chance.choice([1, 10, 100, 2_000, 1e6])
    if kind == "negative":
        return [round(-scale * chance.uniform(0.2, 1), 3), round(scale * chance.uniform(0, 1), 3)]
    if kind == "close":
        return [0, scale]
    low = chance.choice([0, 0, 0, round(scale * 0.95, 3), round(-scale * chance.random(), 3)])
    return [low, round(low + scale * chance.uniform(0.05, 1), 3)]


def value_in(kind, bounds, chance):
    low, high = bounds
    if kind == "at_bounds" and chance.random() < 0.5:
        return chance.choice(bounds)
    if kind == "close":
        # As uptimes are: all of them within a thousandth of each other.
        part = 0.999 + 0.001 * chance.random()
    else:
        part = chance.random()
    value = low + part * (high - low)
    if kind == "rounded":
        # Few different values, so that options tie.
        value = round(value, 0 if high - low >= 5 else 1)
    elif kind != "plain":
        # Shorter to write; plain ones keep all their digits.
        value = round(value, 6 if kind == "close" else 4)
    return min(max(value, low), high)


def weights_of(kind, criteria, chance):
    parts = [chance.choice([1, 2, 3, 5, 10]) if kind == "rounded" else round(chance.uniform(0.01, 1), 3) for _ in range(criteria)]
    if kind == "no_weight" and criteria > 1:
        for at in chance.sample(range(criteria), chance.randint(1, criteria - 1)):
            parts[at] = 0
    # The same sum in every version of Python.
    return [part / math.fsum(parts) for part in parts]


def problem(kind, chance):
    options, criteria = chance.randint(1, 12), chance.randint(1, 10)
    types = [chance.choice([1, -1]) for _ in range(criteria)]
    bounds = [bounds_of(kind, chance) for _ in range(criteria)]
    rows = [[value_in(kind, pair, chance) for pair in bounds] for _ in range(options)]
    if kind == "equal_columns":
        for at in chance.sample(range(criteria), chance.randint(1, criteria)):
            for row in rows:
                row[at] = rows[0][at]
    if kind in ("equal_options", "all_equal"):
        twins = options if kind == "all_equal" else chance.randint(1, options)
        for at in chance.sample(range(options), twins):
            rows[at] = list(rows[0])
    return {"kind": kind, "types": types, "weights": weights_of(kind, criteria, chance), "bounds": bounds, "rows": rows}


def solved(problem):
    types, weights, rows = (np.array(problem[name], dtype=float) for name in ("types", "weights", "rows"))
    methods = {
        "spotis": SPOTIS(np.array(problem["bounds"], dtype=float)),
        "wsm": WSM(minmax_normalization),
        # Of a cost pymcdm takes 1 - x/|x|: every distance is what it is for x/|x| with the least as the ideal.
        "topsis": TOPSIS(vector_normalization),
    }
    results = {}
    for name, method in methods.items():
        # It warns of options that are the best or the worst by everything, and of weights of 0; neither hurts here.
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            warnings.simplefilter("ignore")
            scores = method(rows, weights, types)
        results[name] = scores.tolist() if np.isfinite(scores).all() else None
    return problem | results


def main():
    chance = random.Random(SEED)
    problems = [solved(problem(KINDS[at % len(KINDS)], chance)) for at in range(PROBLEMS)]
    about = {"pymcdm": version("pymcdm"), "numpy": version("numpy"), "seed": SEED}
    lines = ",\n".join(json.dumps(one, separators=(",", ":"), allow_nan=False) for one in problems)
    text = f'{json.dumps(about)[:-1]}, "problems": [\n{lines}\n]}}\n'
    Path(__file__).with_name("problems.json").write_text(text)


main()
