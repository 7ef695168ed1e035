"""A soak: one steady open-loop load for long, and whether memory, descriptors, latency and errors stay as they are."""

import time

from loadtest import generator, judge, page, target as targets
from loadtest.plot import Axis, Chart, duration_us, si, size_bytes
from loadtest.report import describe, over_time
from loadtest.sampler import process_figures

SHARE = 0.5                 # of what a closed loop finds, when no rate was asked for
SKIPPED_SHARE = 0.2         # of the samples, at the start: pools and caches fill
MEMORY_NOISE_BYTES, MEMORY_NOISE_SHARE = 1 << 20, 0.01
DESCRIPTORS_NOISE = 10
LATENCY_NOISE_SHARE = 0.2
ERRORS_SHARE_MAX = 0.001
WHO = {"client": "Load:", "server": "Server:", "noise": "Machine:"}


def steady(samples):
    return samples[int(len(samples) * SKIPPED_SHARE + 0.999):]


def column(samples, key):
    return [s[key] for s in samples if s.get(key) is not None]


def judge_memory(samples):
    used = [s for s in steady(samples) if s.get("rss_kb")]
    if not used:
        return "unclear", "not watched: --watch PID of a process on this machine"
    xs, ys = column(used, "answered_ever"), [s["rss_kb"] * 1024 for s in used]
    line = judge.trend(xs, ys)
    if line is None:
        return "unclear", "%s; too few samples for a trend" % size_bytes(ys[-1])
    noise = max(MEMORY_NOISE_BYTES, MEMORY_NOISE_SHARE * ys[0])
    word = judge.direction(line, noise, xs[-1] - xs[0])
    sentence = "%s at the end; %+.3g bytes a request (95 %%: %+.3g to %+.3g), %s over %d requests" % (
        size_bytes(ys[-1]), line["slope"], line["low"], line["high"],
        signed_size(line["slope"] * (xs[-1] - xs[0])), xs[-1] - xs[0])
    return {"grows": "bad", "unclear": "unclear"}.get(word, "ok"), sentence


def signed_size(value):
    return ("+" if value >= 0 else "−") + size_bytes(abs(value))


def judge_drift(samples, key, name, noise, form):
    used = [s for s in steady(samples) if s.get(key) is not None]
    ys = column(used, key)
    if not ys:
        return "unclear", "not watched"
    xs = column(used, "at_s")
    line = judge.trend(xs, ys)
    if line is None:
        return "unclear", "%s; too few samples for a trend" % form(ys[-1])
    span = xs[-1] - xs[0]
    word = judge.direction(line, noise(ys), span)
    sentence = "%s in the median; over %.3g min %s by %s (95 %%: %s to %s)" % (
        form(judge.percentile(ys, 0.5)), span / 60, "up" if line["slope"] > 0 else "down", form(abs(line["slope"]) * span),
        form(line["low"] * span), form(line["high"] * span))
    return {"grows": "bad", "unclear": "unclear"}.get(word, "ok"), sentence


def judge_errors(figures):
    asked = figures["requests"]
    wrong = sum(figures[name] for name in ("failed", "broken", "unanswered"))
    sentence = "%d of %d requests%s" % (wrong, asked, judge.statuses(figures))
    return ("bad" if asked == 0 or wrong > asked * ERRORS_SHARE_MAX else "ok"), sentence


def verdicts(samples, figures):
    return [{"name": name, "verdict": verdict, "sentence": sentence} for name, (verdict, sentence) in (
        ("memory", judge_memory(samples)),
        ("descriptors", judge_drift(samples, "descriptors", "descriptors", lambda _: DESCRIPTORS_NOISE, si)),
        ("p50", judge_drift(samples, "p50_us", "p50", lambda ys: LATENCY_NOISE_SHARE * judge.percentile(ys, 0.5),
                            duration_us)),
        ("p99", judge_drift(samples, "p99_us", "p99", lambda ys: LATENCY_NOISE_SHARE * judge.percentile(ys, 0.5),
                            duration_us)),
        ("errors", judge_errors(figures)))]


class Soak:
    def __init__(self, target, program, cores, options, on_sample):
        self.target, self.program, self.cores, self.options, self.on_sample = target, program, cores, options, on_sample

    def rate(self, scenario):
        if self.options.rates:
            return self.options.rates[0]
        line = generator.command(self.program, self.cores.load, self.target, scenario, scenario.connections,
                                 self.options.seconds, self.options.warmup, self.options.grace, seed=self.options.seed)
        self.options.seed += 100000000
        return max(generator.run(line, (self.options.seconds + self.options.warmup) * scenario.stretch)["per_s"] * SHARE, 0.1)

    def run(self, scenario, seconds):
        """Ends early, with what there is, at the first KeyboardInterrupt."""
        options, rate = self.options, self.rate(scenario)
        scenario = scenario._replace(stretch=1)
        connections = options.open_connections or scenario.connections * 4
        line = generator.command(self.program, self.cores.load, self.target, scenario, connections, seconds, options.warmup,
                                 options.grace, rate, options.arrivals, options.sample_seconds, seed=options.seed)
        load = generator.Generator(line, seconds + options.warmup + options.grace)
        began, samples = time.monotonic(), []
        interrupted = False
        try:
            try:
                for figures in load.lines():
                    if "at_s" in figures:
                        samples.append(self.sample(figures))
            except KeyboardInterrupt:
                interrupted = True
                load.stop()
            figures = load.finish()
        finally:
            load.close()
        if figures is None or "elapsed_s" not in figures:
            raise targets.Failure("the load was ended before it had measured anything")
        return {"scenario": scenario.name, "about": scenario.about, "request": "%s %s" % (scenario.method, scenario.path),
                "rate": rate, "connections": connections, "seconds": time.monotonic() - began, "interrupted": interrupted,
                "samples": samples, "figures": figures, "points": [], "remarks": judge.remarks(
                    {"figures": figures, "rate": rate, "connections": connections,
                     "server_core": sum(w["cpu_s"] for w in figures["watched"].values()) / figures["elapsed_s"]
                     if figures["watched"] else None}), "verdicts": verdicts(samples, figures)}

    def sample(self, figures):
        figures.update(process_figures(self.target.pids) or {})
        figures.update(targets.performance(self.target.admin) or {})
        figures["per_s"] = figures["answered"] / self.options.sample_seconds
        if not figures["answered"]:
            figures["p50_us"] = figures["p99_us"] = figures["max_us"] = None
        self.on_sample(figures)
        return figures


# ---- the page

def memory_chart(outcome):
    used = [s for s in outcome["samples"] if s.get("rss_kb")]
    chart = Chart("Memory by requests answered", Axis("requests answered", si, low=0), Axis("resident", size_bytes, unit=1 << 20))
    chart.add("resident", [(s["answered_ever"], s["rss_kb"] * 1024) for s in used], 0, dots=len(used) < 80)
    counted = steady(used)
    line = judge.trend(column(counted, "answered_ever"), [s["rss_kb"] * 1024 for s in counted])
    if line is not None:
        ends = (counted[0]["answered_ever"], counted[-1]["answered_ever"])
        chart.add("trend", [(x, line["intercept"] + line["slope"] * x) for x in ends], 2, dashed=True, dots=False)
    return chart


def charts_of(outcome):
    def value(key):
        return lambda s: s.get(key)
    charts = [over_time(outcome, "Latency", Axis("from the moment it was due", duration_us, "log"), [
        ("p50", value("p50_us"), 0), ("p99", value("p99_us"), 2), ("max", value("max_us"), 7)]),
        over_time(outcome, "Answers", Axis("a second", si, low=0), [
            ("good", value("per_s"), 0), ("failed", lambda s: s["failed"] * s["per_s"] / s["answered"]
                                          if s["answered"] else None, 6)]),
        memory_chart(outcome),
        over_time(outcome, "Descriptors", Axis("open", si, low=0), [("descriptors", value("descriptors"), 4)]),
        over_time(outcome, "At the backend", Axis("requests", si, low=0), [
            ("in flight", value("in_flight"), 0), ("limit", value("limit"), 7), ("queued", value("queued"), 2)])]
    return charts


def rows_of(outcome):
    return [(v["name"], {"ok": "steady", "bad": "WRONG", "unclear": "unclear"}[v["verdict"]], v["sentence"])
            for v in outcome["verdicts"]]


def html(result):
    outcome = result["soak"]
    early = ", ended early" if outcome["interrupted"] else ""
    body = "<h1>Soak of %s</h1><p class='soft'>%s, %.3g min at %s/s%s.</p>%s%s" % (
        page.text(result["target"]), page.text(outcome["request"]), outcome["seconds"] / 60, si(outcome["rate"]), early,
        page.facts(describe(result, "%d samples, %s arrivals" % (
            len(outcome["samples"]), result["options"]["arrivals"]))),
        page.remarks([(kind, WHO.get(kind, "Note:"), sentence)
                      for kind, sentence in outcome["remarks"]]))
    body += page.table(("", "verdict", "what was seen"), rows_of(outcome), [v["verdict"] for v in outcome["verdicts"]],
                       (0, 1, 2))
    return page.page("Soak of %s" % result["target"], body + page.charts(charts_of(outcome)), result)
