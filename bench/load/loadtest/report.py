"""A matrix as a table on the terminal and as a page."""

import re

from loadtest import judge, page
from loadtest.plot import Axis, Chart, duration_us, percent, si

QUANTILES = (("p50", "p50_us"), ("p90", "p90_us"), ("p99", "p99_us"), ("p99.9", "p999_us"), ("max", "max_us"))
HEADER = ("load", "asked/s", "good/s", "p50", "p90", "p99", "p99.9", "max", "not good", "server", "load core", "")
TOKEN_HEADER = ("load", "asked/s", "good/s", "first token p50", "p99", "gap p50", "p99", "tokens/s", "not good", "server",
                "load core", "")
CURVES_MAX = 6
MARKS = (("noise", "noise"), ("client", "client"), ("server", "overload"))


def not_good(figures):
    return sum(figures.get(name, 0) for name in ("failed", "broken", "unanswered", "bad_status", "dropped"))


def mark(point):
    kinds = [kind for kind, _ in point["remarks"]]
    return next((word for kind, word in MARKS if kind in kinds), "")


def name_of(point):
    if point["kind"] == "closed":
        return "closed, %d conn." % point["connections"]
    return "open, %s" % (percent(point["share"]) if point.get("share") else "%s/s" % si(point["rate"]))


def latencies(point, what="latency"):
    spread = point["figures"].get(what) or {}
    return [duration_us(spread[key]) if key in spread else "-" for _, key in QUANTILES]


def row(point, has_tokens):
    figures = point["figures"]
    cells = [name_of(point), si(point["rate"]) if point["rate"] else "-", si(figures["per_s"])]
    if has_tokens:
        first, gap = figures.get("first_token") or {}, figures.get("token_gap") or {}
        cells += [duration_us(s[key]) if key in s else "-" for s in (first, gap) for key in ("p50_us", "p99_us")]
        cells += [si(figures["tokens_per_s"])]
    else:
        cells += latencies(point)
    server = point["server_core"]
    return cells + [str(not_good(figures)), "-" if server is None else "%.0f %%" % (server * 100),
                    "%.0f %%" % (point["load_core"] * 100), mark(point)]


def rows_of(outcome):
    return TOKEN_HEADER if outcome["has_tokens"] else HEADER, [row(p, outcome["has_tokens"]) for p in outcome["points"]]


# ---- pictures

def open_points(outcome):
    points = [p for p in outcome["points"] if p["kind"] == "open"]
    return sorted(points, key=lambda p: p["rate"])


def hollow(points):
    return [judge.is_doubtful(p) for p in points]


def latency_chart(points, what="latency", title="Latency against throughput",
                  quantiles=QUANTILES[:4], note="From the moment each request was due. Rings are in doubt: see the remarks."):
    chart = Chart(title, Axis("good answers a second", si, low=0), Axis("latency", duration_us, "log"), note)
    for name, key in quantiles:
        chart.add(name, [(p["figures"]["per_s"], (p["figures"].get(what) or {}).get(key)) for p in points],
                  hollow=hollow(points))
    return chart


def achieved_chart(points):
    chart = Chart("Asked and achieved", Axis("requests asked for a second", si, low=0), Axis("a second", si, low=0))
    chart.add("good answers", [(p["rate"], p["figures"]["per_s"]) for p in points], 0, hollow=hollow(points))
    chart.add("not good", [(p["rate"], not_good(p["figures"]) / p["figures"]["elapsed_s"]) for p in points], 6)
    chart.add("asked", [(p["rate"], p["rate"]) for p in points], 7, dashed=True, dots=False)
    return chart


def core_chart(points):
    chart = Chart("CPU", Axis("requests asked for a second", si, low=0), Axis("of one core", percent, low=0),
                  "Above the dashed line the load may be what limits.")
    chart.add("server", [(p["rate"], p["server_core"]) for p in points], 0)
    chart.add("load", [(p["rate"], p["load_core"]) for p in points], 2)
    chart.level(judge.CLIENT_CORE_MAX, "load saturated")
    return chart


def distribution_chart(points):
    chart = Chart("Latency by percentile", Axis("share of the requests that took no longer", kind="share"),
                  Axis("latency", duration_us, "log"),
                  "Dashed: the highest rate as a closed loop would have counted it, from when a request was sent.")
    step = max(1, -(-len(points) // CURVES_MAX))
    chosen = points[::-1][::step][::-1]
    for p in chosen:
        curve = (p["figures"].get("latency") or {}).get("curve", [])
        chart.add(name_of(p), curve, dots=False)
    if chosen and "service" in chosen[-1]["figures"]:
        chart.add("from the send", chosen[-1]["figures"]["service"]["curve"], len(chosen) - 1, dashed=True, dots=False)
    return chart


def over_time(outcome, title, y, lines, note=None):
    """`lines`: (name, function of a sample, colour). The bands are the points."""
    chart = Chart(title, Axis("seconds", low=0), y, note)
    for p in outcome["points"]:
        chart.band(p["begin_s"], p["end_s"], name_of(p).replace("closed, ", "").replace("open, ", ""))
    for name, value, colour in lines:
        chart.add(name, [(s["at_s"], value(s)) for s in outcome["samples"]], colour, dots=False)
    return chart


def differences(samples, numerator, denominator):
    """For each sample the growth of one since the one before ÷ that of the other; None where nothing grew."""
    result, before = [], None
    for sample in samples:
        value = None
        if before is not None and numerator in sample and numerator in before:
            below = sample[denominator] - before[denominator]
            value = (sample[numerator] - before[numerator]) / below if below > 0 else None
        result.append((sample["at_s"], value))
        before = sample
    return result


def hit_rate_chart(outcome):
    chart = over_time(outcome, "Hit rate of the cache", Axis("of what was looked up", percent, low=0, high=1), [])
    chart.add("hits and joins", differences(outcome["samples"], "served_by_cache", "asked_of_cache"), 1, dots=False)
    return chart


def cpu_over_time(outcome):
    chart = over_time(outcome, "CPU of the server", Axis("of one core", percent, low=0), [])
    chart.add("server", differences(outcome["samples"], "cpu_s", "at_s"), 0, dots=False)
    return chart


def server_charts(outcome):
    """What the server says of itself; nothing of one that says nothing."""
    charts = [over_time(outcome, "At the backend", Axis("requests", si, low=0), [
        ("in flight", lambda s: s.get("in_flight"), 0), ("limit", lambda s: s.get("limit"), 7),
        ("queued", lambda s: s.get("queued"), 2)], "As the schedulers say, which is two seconds old at most.")]
    if any(s.get("asked_of_cache") for s in outcome["samples"]):
        charts.append(hit_rate_chart(outcome))
    if any("in_flight" in s and (s["in_flight"] or s["queued"]) for s in outcome["samples"]):
        return charts
    return charts[1:]


def charts_of(outcome):
    points = open_points(outcome)
    charts = []
    if points:
        charts = [latency_chart(points), distribution_chart(points), achieved_chart(points), core_chart(points)]
    if outcome["has_tokens"] and points:
        both = QUANTILES[:1] + QUANTILES[2:3]
        charts.insert(1, latency_chart(points, "first_token", "Time to first token", both))
        charts.insert(2, latency_chart(points, "token_gap", "Between tokens", both, None))
    return charts + [cpu_over_time(outcome)] + server_charts(outcome)


# ---- the page

def remarks_of(outcome):
    """(kind, who, sentence): what is said of several points, with other numbers, is said once, of the first of them."""
    found = {}
    for p in outcome["points"]:
        for kind, sentence in p["remarks"]:
            found.setdefault((kind, re.sub(r"[\d.]+( k| M)?", "#", sentence)), []).append((name_of(p), sentence))
    return [(kind, said[0][0] + (" and %d more:" % (len(said) - 1) if len(said) > 1 else ":"), said[0][1])
            for (kind, _), said in found.items()]


def describe(result, how):
    machine, cores = result["machine"], result["cores"]
    return [("target", result["target"]),
            ("machine", "%s, %d cores, Linux %s" % (machine["cpu"], machine["cores"], machine["kernel"])),
            ("cores", "load on %s, server on %s" % (cores["load"], "?" if cores["server"] is None else cores["server"])),
            ("measured", how), ("started", result["started"])]


def describe_points(options):
    return "%g s at each point after %g s of warm-up (twice that where answers take seconds); %s arrivals" % (
        options["seconds"], options["warmup"], options["arrivals"])


def section(name, outcome):
    header, rows = rows_of(outcome)
    classes = ["doubt" if judge.is_doubtful(p) else "" for p in outcome["points"]]
    cut = "<p class='note'>Interrupted: the rest of its points is missing.</p>" if outcome.get("interrupted") else ""
    return ("<h2>%s</h2><p class='soft'>%s — %s</p>%s%s%s%s" % (
        page.text(name), page.text(outcome["about"]), page.text(outcome["request"]),
        page.table(header, rows, classes, (0, len(header) - 1)), page.remarks(remarks_of(outcome)), cut,
        page.charts(charts_of(outcome))))


def html(result):
    points = [p for outcome in result["scenarios"].values() for p in outcome["points"]]
    doubtful = sum(judge.is_doubtful(p) for p in points)
    summary = "%d points" % len(points)
    if doubtful:
        summary += ", %d of them in doubt (italic rows, rings): the load was what limited, or the machine was busy" % doubtful
    warnings = [("client", "Note:", warning) for warning in result["warnings"]]
    facts = page.facts(describe(result, describe_points(result["options"])))
    body = "<h1>Load test of %s</h1><p class='soft'>%s.</p>%s%s" % (
        page.text(result["target"]), summary, facts, page.remarks(warnings))
    body += "\n".join(section(name, outcome) for name, outcome in result["scenarios"].items())
    return page.page("Load test of %s" % result["target"], body, result)
