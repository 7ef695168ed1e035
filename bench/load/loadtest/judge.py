"""What figures may be believed, and what they say: saturation, percentiles, trends. Pure functions."""

import math

from loadtest.plot import si

CLIENT_CORE_MAX = 0.9      # busier than this, and the load may be what limits
SERVER_CORE_BUSY = 0.95
LATE_SHARE_MAX = 0.01       # of requests that left 1 ms late or more although a connection was free,
LAG_SHARE_MIN = 0.1         # if that is so much of the usual latency
WAITED_SHARE_MAX = 0.05     # of the time that the load was ready to run and something else had its core
BEHIND_SHARE = 0.02         # of what was asked for that may be missing, beside three standard deviations of what is by chance
FEW_ANSWERS = 100           # below that, p99 is one or two requests
WINDOW_LATENCIES_MIN = 3    # a window shorter than so many usual latencies is made of its ends

# Two-sided 95 % points of Student's t; the last is the normal distribution's.
T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10,
        2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04)
T_95_MANY = 1.96


def percentile(values, share):
    """The value below which this share lies, between neighbours where it falls between; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def is_behind(figures, rate):
    """Whether fewer good answers came than were asked for, beyond what chance explains."""
    if rate is None:
        return False
    asked, came = rate * figures["elapsed_s"], figures["per_s"] * figures["elapsed_s"]
    return asked - came > BEHIND_SHARE * asked + 3 * math.sqrt(asked)


def waited_share(usage, elapsed_s):
    return usage["waited_s"] / elapsed_s


def remarks_on_machine(figures):
    """Whether something else had the cores."""
    elapsed = figures["elapsed_s"]
    waited = waited_share(figures["load"], elapsed)
    if waited > WAITED_SHARE_MAX:
        yield "noise", "the load waited %.0f %% of the time for its core: something else ran there" % (waited * 100)
    waited = sum(waited_share(usage, elapsed) for usage in figures.get("watched", {}).values())
    if waited > WAITED_SHARE_MAX:
        yield "noise", "the server waited %.0f %% of the time for its core: something else ran there" % (waited * 100)


def remarks_on_load(figures, server_core):
    """Why a point may say more of the load than of the server."""
    busy = figures["load"]["cpu_s"] / figures["elapsed_s"]
    late = figures.get("late", 0) / figures["requests"] if figures["requests"] else 0
    lag_us = (figures.get("lag") or {}).get("p99_us", 0)
    if busy >= CLIENT_CORE_MAX and (server_core is None or server_core < SERVER_CORE_BUSY or late > LATE_SHARE_MAX):
        yield "client", "the load had %.0f %% of a core: it is what limits, not the server" % (busy * 100)
    elif late > LATE_SHARE_MAX and lag_us > LAG_SHARE_MIN * (figures.get("latency") or {}).get("p50_us", 0):
        yield "client", ("%.1f %% of the requests left more than 1 ms late although a connection was free"
                         % (late * 100))


def remarks_on_server(figures, rate):
    failed = figures.get("failed", 0) + figures.get("bad_status", 0)
    broken, unanswered = figures.get("broken", 0) + figures.get("dropped", 0), figures.get("unanswered", 0)
    if is_behind(figures, rate):
        yield "server", "%s good answers/s of %s asked: it did not keep up" % (si(figures["per_s"]), si(rate))
    if failed:
        yield "server", "%d answers were not 2xx%s" % (failed, statuses(figures))
    if broken or unanswered:
        yield "server", "%d requests had no answer at the end, %d broke off" % (unanswered, broken)


def remarks(point):
    """What is to be known about a point before it is believed: (kind, sentence). Kind `noise`: the machine was busy with
    something else. `client`: the point measures the load, not the server. `server`: the server did not keep up. `note`:
    none of these."""
    figures, rate = point["figures"], point.get("rate")
    found = list(remarks_on_machine(figures)) or list(remarks_on_load(figures, point.get("server_core")))
    of_server = list(remarks_on_server(figures, rate))
    if found:   # a server is not blamed for a rate that the load did not make
        of_server = [remark for remark in of_server if "keep up" not in remark[1]]
    found += of_server
    count, waited = figures["requests"], figures.get("waited", 0)
    if not found and waited > count * LATE_SHARE_MAX:
        found.append(("note", "%.0f %% of the requests waited for one of the %d connections, and that wait is in their "
                      "latency" % (waited / count * 100, point["connections"])))
    if count < FEW_ANSWERS:
        found.append(("note", "%d requests: p99 and beyond are one or two of them" % count))
    usual_s = (figures.get("latency") or {}).get("p50_us", 0) / 1e6
    if usual_s * WINDOW_LATENCIES_MIN > figures["elapsed_s"]:
        found.append(("note", "answers take %.2g s, the window has %.2g s: measure longer" % (usual_s, figures["elapsed_s"])))
    return found


def statuses(figures):
    counts = {status: n for status, n in figures.get("statuses", {}).items() if not status.startswith("2")}
    return " (%s)" % ", ".join("%s: %d" % pair for pair in sorted(counts.items())) if counts else ""


def is_doubtful(point):
    """Whether a point says something of the load or the machine rather than of the server."""
    return any(kind in ("client", "noise") for kind, _ in point["remarks"])


def trend(xs, ys):
    """Least squares: {"slope", "low", "high", "intercept", "n"}; low and high are the 95 % confidence limits of the slope.
    None when there is no line to be drawn.

    Neighbouring samples of a process are alike (memory comes in steps), which makes n samples worth fewer: they count as
    n (1 - r) / (1 + r), r being the residuals' correlation with their neighbours (Bartlett's first-order correction)."""
    n = len(xs)
    if n < 3:
        return None
    mean_x, mean_y = sum(xs) / n, sum(ys) / n
    spread = sum((x - mean_x) ** 2 for x in xs)
    if spread == 0:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / spread
    intercept = mean_y - slope * mean_x
    residuals = [y - intercept - slope * x for x, y in zip(xs, ys)]
    square = sum(r * r for r in residuals)
    alike = sum(a * b for a, b in zip(residuals, residuals[1:])) / square if square > 0 else 0
    alike = min(max(alike, 0), 0.99)
    worth = max(n * (1 - alike) / (1 + alike), 3)
    error = math.sqrt(square / ((worth - 2) * spread))
    freedom = int(worth) - 2
    t = T_95[freedom - 1] if freedom <= len(T_95) else T_95_MANY
    return {"slope": slope, "low": slope - t * error, "high": slope + t * error, "intercept": intercept, "n": n}


def direction(line, change_min, span):
    """`grows`, `falls`, `steady` or `unclear`, of a trend over a span of x: a change over the span of less than change_min
    is nothing, as far as the uncertainty lets that be said."""
    if line is None:
        return "unclear"
    low, high = line["low"] * span, line["high"] * span
    if low > 0 and line["slope"] * span > change_min:
        return "grows"
    if high < 0 and line["slope"] * span < -change_min:
        return "falls"
    return "steady" if max(abs(low), abs(high)) <= change_min else "unclear"
