"""The matrix: for each scenario a closed loop first, which finds what the target can do, then open loops at shares of that
(or at rates that were asked for)."""

import time

from loadtest import generator, judge, target as targets
from loadtest.sampler import Sampler

SETTLE_S = 0.3              # between points: what was cut off at the end of one is over before the next
SAMPLE_S = 0.25
OPEN_CONNECTIONS = 4        # times as many as in the closed loop: users do not share connections because a server is slow
CONNECTIONS_MAX = 20000
SPREADS = ("latency", "service", "first_event", "first_token", "token_gap", "lag")


def plan(options, scenarios):
    """(scenario, kind, connections, share or rate or None) of each point, in the order they are run."""
    points = []
    for scenario in scenarios:
        connections = options.connections or [1, scenario.connections]
        most = max(connections)
        points += [(scenario, "closed", count, None) for count in connections]
        if scenario.pipeline > 1:
            continue
        wide = options.open_connections or min(most * OPEN_CONNECTIONS, CONNECTIONS_MAX)
        if options.rates:
            points += [(scenario, "open", wide, rate) for rate in options.rates]
        else:
            points += [(scenario, "share", wide, share) for share in options.shares]
    return points


def seconds_of(options, points):
    return sum((options.warmup + options.seconds) * scenario.stretch + SETTLE_S + options.grace / 4
               for scenario, _, _, _ in points)


class Matrix:
    def __init__(self, target, program, cores, options, on_point):
        self.target, self.program, self.cores, self.options, self.on_point = target, program, cores, options, on_point

    def measure(self, sampler, scenario, kind, connections, rate):
        options, target = self.options, self.target
        line = generator.command(self.program, self.cores.load, target, scenario, connections, options.seconds,
                                 options.warmup, options.grace, rate, options.arrivals, seed=options.seed)
        options.seed += 100000000       # numbers that were not asked before
        counted, begin_s = targets.requests_counted(target.admin), sampler.now()
        figures = generator.run(line, (options.seconds + options.warmup) * scenario.stretch + options.grace)
        end_s = sampler.now()
        time.sleep(SETTLE_S)
        after = targets.requests_counted(target.admin)
        elapsed = figures["elapsed_s"]
        watched = figures["watched"].values()
        point = {"kind": kind, "connections": connections, "rate": rate, "begin_s": round(begin_s, 3),
                 "end_s": round(end_s, 3), "load_core": figures["load"]["cpu_s"] / elapsed,
                 "server_core": sum(w["cpu_s"] for w in watched) / elapsed if watched else None,
                 "server_counted": None if counted is None or after is None else after - counted, "figures": figures}
        point["remarks"] = judge.remarks(point)
        return point

    def scenario(self, scenario, points):
        """Runs one scenario's points and gives {"points", "samples", …}; on an interrupt, those there are."""
        outcome = {"about": scenario.about, "request": "%s %s" % (scenario.method, scenario.path),
                   "has_tokens": scenario.tokens, "points": []}
        with Sampler(self.target, SAMPLE_S) as sampler:
            outcome["samples"] = sampler.samples
            try:
                for _, kind, connections, wanted in points:
                    rate = wanted
                    if kind == "share":
                        best = max(p["figures"]["per_s"] for p in outcome["points"] if p["kind"] == "closed")
                        rate = max(best * wanted, 0.1)
                    point = self.measure(sampler, scenario, "closed" if kind == "closed" else "open", connections, rate)
                    point["share"] = wanted if kind == "share" else None
                    outcome["points"].append(point)
                    self.on_point(scenario, point)
            except KeyboardInterrupt:
                outcome["interrupted"] = True
        return outcome
