"""Two matrices side by side."""

import json
import re

from loadtest import judge, page
from loadtest.plot import Axis, Chart, duration_us, si
from loadtest.report import name_of, open_points
from runner.process import Failure

HEADER = ("", "good/s A", "B", "B ÷ A", "p50 A", "B", "B ÷ A", "p99 A", "B", "B ÷ A", "")
QUANTILES = (("p50", "p50_us"), ("p99", "p99_us"))


def read(path):
    """Figures from a JSON file or a report's page."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        found = re.search(r"<script type='application/json' id='figures'>(.*?)</script>", text, re.DOTALL)
        result = json.loads(found[1] if found else text)
    except (OSError, ValueError) as error:
        raise Failure("cannot read %s: %s" % (path, error)) from None
    if not isinstance(result, dict) or "scenarios" not in result:
        raise Failure("%s is no report of a matrix" % path)
    return result


def key_of(point):
    return (point["kind"], point["connections"] if point["kind"] == "closed" else None,
            point.get("share") or point.get("rate"))


def ratio(a, b):
    return "%.2f" % (b / a) if a and b is not None else "-"


def pairs(a, b):
    """(scenario, [(point of A, point of B)]) of what both have."""
    for name, outcome in a["scenarios"].items():
        others = {key_of(p): p for p in b["scenarios"].get(name, {}).get("points", [])}
        found = [(p, others[key_of(p)]) for p in outcome["points"] if key_of(p) in others]
        if found:
            yield name, found


def row(a, b):
    cells = [name_of(a), si(a["figures"]["per_s"]), si(b["figures"]["per_s"]),
             ratio(a["figures"]["per_s"], b["figures"]["per_s"])]
    for _, key in QUANTILES:
        values = [(p["figures"].get("latency") or {}).get(key) for p in (a, b)]
        cells += [duration_us(v) if v is not None else "-" for v in values] + [ratio(*values)]
    return cells + ["in doubt" if judge.is_doubtful(a) or judge.is_doubtful(b) else ""]


def chart(a, b):
    it = Chart("Latency against throughput", Axis("good answers a second", si, low=0), Axis("latency", duration_us, "log"),
               "A whole, B dashed.")
    for colour, (name, key) in enumerate(QUANTILES):
        for letter, outcome in (("A", a), ("B", b)):
            points = open_points(outcome)
            it.add("%s %s" % (name, letter), [(p["figures"]["per_s"], (p["figures"].get("latency") or {}).get(key))
                                              for p in points], colour * 2, dashed=letter == "B",
                   hollow=[judge.is_doubtful(p) for p in points])
    return it


def html(a, b, names):
    body = "<h1>Two load tests</h1>" + page.facts([
        (letter, "%s: %s, %s" % (name, result["target"], result["started"]))
        for letter, name, result in (("A", names[0], a), ("B", names[1], b))])
    for name, found in pairs(a, b):
        body += "<h2>%s</h2>%s%s" % (page.text(name), page.table(HEADER, [row(*p) for p in found], texts=(0, 10)),
                                     page.charts([chart(a["scenarios"][name], b["scenarios"][name])]))
    return page.page("Two load tests", body, {"a": names[0], "b": names[1]})
