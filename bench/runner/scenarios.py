"""What is measured: for each scenario a backend, a load, and who takes part."""

import contextlib
import http.client
import json
import statistics
import subprocess
import time

from runner import process, syscalls
from runner.process import Failure, free_port, started
from runner.report import progress

CHAT = ["--method", "POST", "--path", "/v1/chat/completions", "--body",
        '{"model":"ticker","stream":true,"messages":[{"role":"user","content":"go"}]}']
PROXIES = ("relay", "sluice", "nginx", "haproxy")
SERVERS = ("floor", "sluice", "nginx", "haproxy")
CACHES = SERVERS + ("varnish",)


class Run:
    """What one scenario's run has at hand."""

    def __init__(self, programs, cores, options, contenders):
        self.programs, self.cores, self.options, self.contenders = programs, cores, options, contenders

    def backend(self, command):
        """Starts a backend on the load's core, or nothing when the scenario has none; gives (process, port)."""
        if command is None:
            return contextlib.nullcontext((None, None))
        return self._backend(command)

    @contextlib.contextmanager
    def _backend(self, command):
        port = free_port()
        with started("the backend", [self.programs[command[0]], "--port", str(port)] + command[1:], self.cores.load,
                     [port]) as server:
            yield server, port

    def load_command(self, port, arguments):
        return [self.programs["load"], "--cpu", str(self.cores.load), "--port", str(port)] + arguments

    def load(self, port, arguments, watch=(), seconds=None):
        """One run of the load program to its end; gives what it printed."""
        command = self.load_command(port, arguments)
        command += ["--warmup-ms", str(int(self.options.warmup * 1000)),
                    "--window-ms", str(int((seconds or self.options.seconds) * 1000))]
        if watch:
            command += ["--watch", ",".join(map(str, watch))]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, errors = child.communicate(timeout=self.options.seconds + self.options.warmup + 300)
        except BaseException:
            child.kill()
            child.wait()
            raise
        if child.returncode != 0:
            raise Failure(errors.strip() or "the load ended with status %d" % child.returncode)
        return json.loads(out)

    def rounds(self, contenders):
        """The order of each round, rotated so that nobody always comes first."""
        for number in range(self.options.rounds):
            turn = number % len(contenders)
            yield number, contenders[turn:] + contenders[:turn]


def spent(measured, pids):
    return sum(measured["watched"][str(pid)]["cpu_s"] for pid in pids)


def waited(measured, pids):
    return sum(measured["watched"][str(pid)]["waited_s"] for pid in pids)


def median(rows, key):
    values = [row[key] for row in rows if row.get(key) is not None]
    return statistics.median(values) if values else None


def summarise(samples, base, keys, ratio_key):
    """Medians of each contender's rounds, and `ratio_key` against the base's: of the medians, and round by round."""
    result = {}
    for name, rows in samples.items():
        row = {"rounds": rows, **{key: median(rows, key) for key in keys}}
        failures = [sample["failed"] for sample in rows if "failed" in sample]
        if failures:
            row["failed"] = "%s (%d of %d rounds)" % (failures[-1], len(failures), len(rows))
        result[name] = row
    lower = result.get(base, {}).get(ratio_key)
    for name, row in result.items():
        if lower and row[ratio_key]:
            row["ratio"] = row[ratio_key] / lower
            pairs = [own[ratio_key] / low[ratio_key] for own, low in zip(samples[name], samples[base])
                     if own.get(ratio_key) and low.get(ratio_key)]
            row["ratio_per_round"] = statistics.median(pairs) if pairs else None
    return result


class Throughput:
    """Requests or events through each contender, round by round."""

    def __init__(self, about, base, contenders, backend, arguments, connections, unit="request"):
        self.about, self.base, self.contenders = about, base, contenders
        self.backend, self.arguments, self.connections, self.unit = backend, arguments, connections, unit

    KEYS = ("per_s", "p50_us", "p99_us", "cpu_us", "server_core", "load_core", "waited", "gap_p50_us", "enters")

    def serve(self, run, contender, port):
        return contender.serve(run.cores.server, port)

    def prepare(self, contender, server, backend):
        """Whatever must be so before the first round; Failure leaves the contender out."""

    def sample(self, run, contender, server, backend, arguments):
        pids, behind = server.pids(), backend.pids() if backend else []
        before = contender.enters(server)
        measured = run.load(server.ports[0], arguments, pids + behind)
        after = contender.enters(server)
        wrong = {key: measured[key] for key in ("bad_status", "dropped", "broken", "ended") if measured.get(key)}
        if wrong:
            raise Failure("wrong answers: %s" % wrong)
        count, ever = measured[self.unit + "s"], measured[self.unit + "s_ever"]
        if count == 0:
            raise Failure("not one %s in the window" % self.unit)
        latency = measured.get("latency") or measured.get("delay") or {}
        elapsed = measured["elapsed_s"]
        return {"per_s": measured["per_s"], "p50_us": latency.get("p50_us"), "p99_us": latency.get("p99_us"),
                "cpu_us": spent(measured, pids) / count * 1e6, "server_core": spent(measured, pids) / elapsed,
                "load_core": (measured["load"]["cpu_s"] + spent(measured, behind)) / elapsed,
                "waited": waited(measured, pids) / elapsed,
                "gap_p50_us": measured["gap"]["p50_us"] if "gap" in measured else None,
                "enters": (after - before) / ever if before is not None and after is not None else None}

    def count_calls(self, run, server, arguments):
        """System calls per request, in the middle of a run of their own."""
        command = run.load_command(server.ports[0], arguments + ["--warmup-ms", "1000", "--window-ms", "60000"])
        with started("load", command, run.cores.load) as load:
            time.sleep(1.5)
            return syscalls.per_answer(server.pids(), lambda: load.counters()[self.unit + "s_ever"])

    def run(self, run):
        arguments = self.arguments + ["--connections", str(run.options.connections or self.connections)]
        samples, calls = {contender.name: [] for contender in run.contenders}, {}
        with contextlib.ExitStack() as stack:
            backend, port = stack.enter_context(run.backend(self.backend))
            servers, present = {}, []
            for contender in run.contenders:
                try:
                    servers[contender.name] = stack.enter_context(self.serve(run, contender, port))
                    self.prepare(contender, servers[contender.name], backend)
                    present.append(contender)
                except Failure as failure:
                    samples[contender.name].append({"failed": str(failure)})
            if not present:
                raise Failure("nobody to measure")
            for number, order in run.rounds(present):
                for contender in order:
                    progress("round %d of %d: %s" % (number + 1, run.options.rounds, contender.name))
                    try:
                        row = self.sample(run, contender, servers[contender.name], backend, arguments)
                    except Failure as failure:
                        row = {"failed": str(failure)}
                    samples[contender.name].append(row)
            for contender in present if run.options.syscalls else ():
                progress("system calls: %s" % contender.name)
                with contextlib.suppress(Failure):
                    calls[contender.name] = self.count_calls(run, servers[contender.name], arguments)
        rows = summarise(samples, self.base, self.KEYS, "cpu_us")
        for name, found in calls.items():
            rows[name]["calls"] = found
        return {"about": self.about, "base": self.base, "unit": self.unit, "contenders": rows,
                "connections": run.options.connections or self.connections}

    COLUMNS = (("per_s", "%ss/s", "%.0f"), ("p50_us", "p50 us", "%.0f"), ("p99_us", "p99 us", "%.0f"),
               ("cpu_us", "CPU us/%s", "%.3f"), ("ratio", "x base", "%.2f"), ("ratio_per_round", "x base/round", "%.2f"),
               ("server_core", "server core", "%.0f%%"), ("load_core", "load core", "%.0f%%"),
               ("waited", "waited", "%.0f%%"), ("enters", "enters/%s", "%.3f"))


class Hit(Throughput):
    """Throughput of answers from a cache. A contender that asks the backend again, even once, has failed."""

    PATH = "/hit"
    FILL_REQUESTS = 3   # a cache may first count, or answer while it still stores

    def __init__(self, about, body_bytes, connections):
        super().__init__(about, "floor", CACHES, ["floor", "--body", str(body_bytes), "--max-age", "3600"],
                         ["--path", self.PATH], connections)
        self.body_bytes = body_bytes

    def serve(self, run, contender, port):
        return contender.serve_cached(run.cores.server, port, self.body_bytes)

    def ask(self, server):
        """The fields of one answer, which must be the whole of it."""
        connection = http.client.HTTPConnection("127.0.0.1", server.ports[0], timeout=10)
        try:
            connection.request("GET", self.PATH)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failure("no answer: %s" % error) from None
        finally:
            connection.close()
        if answer.status != 200 or body != b"x" * self.body_bytes:
            raise Failure("status %d with %d bytes instead of 200 with %d" % (answer.status, len(body), self.body_bytes))
        return answer.headers

    def prepare(self, contender, server, backend):
        for _ in range(self.FILL_REQUESTS):
            self.ask(server)
        before = backend.counters()["requests"]
        headers = self.ask(server)
        if backend.counters()["requests"] != before:
            raise Failure("not from the cache: the backend was asked again")
        if contender.is_hit(headers) is False:
            raise Failure("not a hit by its own account: Cache-Status: %s" % headers.get("Cache-Status", "(none)"))

    def sample(self, run, contender, server, backend, arguments):
        before = backend.counters()["requests"]
        row = super().sample(run, contender, server, backend, arguments)
        asked = backend.counters()["requests"] - before
        if asked > 0:
            raise Failure("not from the cache: the backend was asked %d times" % asked)
        return row


class Latency(Throughput):
    """What a hop adds at one connection: through it, less the backend asked directly in the same round."""

    KEYS = ("per_s", "p50_us", "p99_us", "added_p50_us", "added_p99_us", "server_core", "waited")

    def run(self, run):
        arguments = self.arguments + ["--connections", str(run.options.connections or self.connections)]
        samples = {"direct": [], **{contender.name: [] for contender in run.contenders}}
        with contextlib.ExitStack() as stack:
            backend, port = stack.enter_context(run.backend(self.backend))
            servers = {}
            for contender in run.contenders:
                try:
                    servers[contender.name] = stack.enter_context(contender.serve(run.cores.server, port))
                except Failure as failure:
                    samples[contender.name].append({"failed": str(failure)})
            asked = ["direct"] + [contender for contender in run.contenders if contender.name in servers]
            for number, order in run.rounds(asked):
                rows = {}
                for who in order:
                    name = "direct" if who == "direct" else who.name
                    progress("round %d of %d: %s" % (number + 1, run.options.rounds, name))
                    try:
                        rows[name] = self.once(run, name, servers, backend, port, arguments)
                    except Failure as failure:
                        rows[name] = {"failed": str(failure)}
                for name, row in rows.items():
                    if name != "direct" and "p50_us" in row and "p50_us" in rows["direct"]:
                        row["added_p50_us"] = row["p50_us"] - rows["direct"]["p50_us"]
                        row["added_p99_us"] = row["p99_us"] - rows["direct"]["p99_us"]
                    samples[name].append(row)
        rows = summarise(samples, self.base, self.KEYS, "added_p50_us")
        low = rows.get(self.base, {}).get("added_p99_us")
        for row in rows.values():
            row["ratio_p99"] = row["added_p99_us"] / low if low and row["added_p99_us"] is not None else None
        return {"about": self.about, "base": self.base, "unit": self.unit, "contenders": rows}

    def once(self, run, name, servers, backend, port, arguments):
        server = backend if name == "direct" else servers[name]
        measured = run.load(port if name == "direct" else server.ports[0], arguments, server.pids())
        wrong = {key: measured[key] for key in ("bad_status", "dropped", "broken") if measured.get(key)}
        if wrong:
            raise Failure("wrong answers: %s" % wrong)
        return {"per_s": measured["per_s"], "p50_us": measured["latency"]["p50_us"],
                "p99_us": measured["latency"]["p99_us"], "waited": waited(measured, server.pids()) / measured["elapsed_s"],
                "server_core": spent(measured, server.pids()) / measured["elapsed_s"]}

    COLUMNS = (("per_s", "%ss/s", "%.0f"), ("p50_us", "p50 us", "%.1f"), ("p99_us", "p99 us", "%.1f"),
               ("added_p50_us", "added p50", "%.1f"), ("ratio", "x base", "%.2f"),
               ("ratio_per_round", "x base/round", "%.2f"), ("added_p99_us", "added p99", "%.1f"),
               ("ratio_p99", "x base", "%.2f"), ("server_core", "server core", "%.0f%%"), ("waited", "waited", "%.0f%%"))


class Memory:
    """Base of the two scenarios about memory: each contender alone and freshly started, a few rounds."""

    base = None
    backend = None
    ROUNDS_MAX = 3      # memory repeats far better than time does

    def run(self, run):
        samples = {}
        with run.backend(self.backend) as (_, port):
            for contender in run.contenders:
                rows = samples[contender.name] = []
                for number in range(min(run.options.rounds, self.ROUNDS_MAX)):
                    progress("round %d: %s" % (number + 1, contender.name))
                    try:
                        with contender.serve(run.cores.server, port) as server:
                            rows.append(self.sample(run, server))
                    except Failure as failure:
                        rows.append({"failed": str(failure)})
        return {"about": self.about, "base": None, "unit": "connection",
                "contenders": summarise(samples, None, self.KEYS, self.KEYS[0])}


class IdleMemory(Memory):
    about = "memory of the server's own for each of 10,000 idle keep-alive connections"
    contenders = SERVERS
    KEYS = ("private_bytes", "resident_bytes", "held")
    COLUMNS = (("private_bytes", "private B/conn", "%.0f"), ("resident_bytes", "resident B/conn", "%.0f"),
               ("held", "held", "%.0f"))
    connections = 10000

    def sample(self, run, server):
        count = run.options.connections or self.connections
        run.load(server.ports[0], ["--path", "/static"], seconds=1)     # touches what the server shares among all
        pids = server.pids()
        private, resident = process.memory_bytes(pids)
        hold = ["--mode", "hold", "--path", "/static", "--connections", str(count), "--warmup-ms", "1000"]
        with started("load", run.load_command(server.ports[0], hold), run.cores.load) as load:
            held = json.loads(load.read_line(90))
            private_held, resident_held = process.memory_bytes(pids)
        if held["dropped"] or held["bad_status"]:
            raise Failure("not all were held: %s" % held)
        return {"private_bytes": (private_held - private) / count, "resident_bytes": (resident_held - resident) / count,
                "held": held["held"]}


class StreamMemory(Memory):
    about = "growth of resident memory while 1 GiB passes down, then up, after 256 MiB of each to warm up"
    contenders = PROXIES
    backend = ["bulk"]
    KEYS = ("down_growth_kb", "up_growth_kb", "down_mb_per_s", "up_mb_per_s", "down_cpu_s", "up_cpu_s")
    COLUMNS = (("down_growth_kb", "down: growth KB", "%.0f"), ("down_mb_per_s", "MB/s", "%.0f"),
               ("down_cpu_s", "CPU s", "%.2f"), ("up_growth_kb", "up: growth KB", "%.0f"),
               ("up_mb_per_s", "MB/s", "%.0f"), ("up_cpu_s", "CPU s", "%.2f"))
    WARM_BYTES, BYTES = 1 << 28, 1 << 30

    def sample(self, run, server):
        row, pids = {}, server.pids()
        modes = {"down": lambda size: ["--mode", "download", "--path", "/bytes/%d" % size],
                 "up": lambda size: ["--mode", "upload", "--path", "/bytes/", "--bytes", str(size)]}
        for arguments in modes.values():
            run.load(server.ports[0], arguments(self.WARM_BYTES), pids)
        for name, arguments in modes.items():
            process.peak_reset(pids)
            before = process.peak_bytes(pids)
            measured = run.load(server.ports[0], arguments(self.BYTES), pids)
            row[name + "_growth_kb"] = (process.peak_bytes(pids) - before) / 1024
            row[name + "_mb_per_s"] = measured["mb_per_s"]
            row[name + "_cpu_s"] = spent(measured, pids)
        return row


SCENARIOS = {
    "static-1k": Throughput("a fixed answer of 1 KB, 64 keep-alive connections", "floor", SERVERS, None,
                            ["--path", "/static"], 64),
    "static-1k-pipelined-16": Throughput("the same, 16 requests sent at once", "floor", SERVERS, None,
                                         ["--path", "/static", "--pipeline", "16"], 64),
    "hit-1k": Hit("1 KB from a cache that is warm, 64 keep-alive connections", 1024, 64),
    "hit-64k": Hit("64 KB from a cache that is warm, 64 keep-alive connections", 65536, 64),
    "proxied-1k": Throughput("1 KB from a backend, 64 keep-alive connections", "relay", PROXIES,
                             ["floor", "--body", "1024"], ["--path", "/one"], 64),
    "proxied-64k": Throughput("64 KB from a backend, 64 keep-alive connections", "relay", PROXIES,
                              ["floor", "--body", "65536"], ["--path", "/big"], 64),
    "sse-fanout": Throughput("2,000 event streams of 20 events/s; the delay is from the ticker to the client", "relay",
                             PROXIES, ["ticker", "--rate", "20"], ["--mode", "sse"] + CHAT, 2000, "event"),
    "latency-1conn": Latency("what the hop adds to 1 KB at one connection", "relay", PROXIES,
                             ["floor", "--body", "1024"], ["--path", "/one"], 1),
    "idle-memory": IdleMemory(),
    "stream-1gb": StreamMemory(),
}
