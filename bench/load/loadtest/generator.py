"""One run of bench/load.c: a point of the matrix."""

import json
import select
import subprocess
import time

from runner.process import Failure

LEAVE_S = 60    # beyond what a run may take


def command(program, core, target, scenario, connections, seconds, warmup, grace, rate=None, arrivals="even",
            interval=None, seed=1):
    line = [program, "--address", target.address, "--port", str(target.port), "--authority", target.authority,
            "--connections", str(connections), "--window-ms", str(int(seconds * scenario.stretch * 1000)),
            "--warmup-ms", str(int(warmup * scenario.stretch * 1000)), "--method", scenario.method, "--path", scenario.path]
    if core is not None:
        line += ["--cpu", str(core)]
    if target.mine:
        line += ["--host-is-mine", target.address]
    if scenario.body is not None:
        line += ["--body", scenario.body]
    if scenario.headers:
        line += ["--headers", scenario.headers]
    if target.pids:
        line += ["--watch", ",".join(map(str, target.pids))]
    if scenario.pipeline > 1:
        return line + ["--mode", "requests", "--pipeline", str(scenario.pipeline)]
    line += ["--mode", "paced", "--keys", str(scenario.keys), "--grace-ms", str(int(grace * 1000)), "--seed", str(seed)]
    if rate is not None:
        line += ["--rate", "%.6f" % rate, "--arrivals", arrivals]
    if interval is not None:
        line += ["--interval-ms", str(int(interval * 1000))]
    return line


class Generator:
    """The load program at work. `stop` ends it early with the figures it has."""

    def __init__(self, line, seconds_max):
        self.deadline = time.monotonic() + seconds_max + LEAVE_S
        self.popen = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.rest = b""
        self.result = None

    def stop(self):
        if self.popen.poll() is None:
            self.popen.terminate()

    def lines(self):
        """Each line of figures as it comes. The last one is the result."""
        pipe = self.popen.stdout
        while True:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise Failure("the load did not end in time")
            if not select.select([pipe], [], [], left)[0]:
                continue
            piece = pipe.read1(65536)
            if not piece:
                return
            self.rest += piece
            *whole, self.rest = self.rest.split(b"\n")
            for line in whole:
                self.result = json.loads(line)
                yield self.result

    def finish(self):
        """Ends it, however it stands, and gives back what it said last."""
        try:
            for _ in self.lines():
                pass
            errors = self.popen.stderr.read().decode(errors="replace").strip()
            if self.popen.wait(LEAVE_S) != 0:
                raise Failure(errors or "the load ended with status %d" % self.popen.returncode)
            return self.result
        finally:
            self.close()

    def close(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self.popen.stdout.close()
        self.popen.stderr.close()


def run(line, seconds_max):
    generator = Generator(line, seconds_max)
    try:
        return generator.finish()
    finally:
        generator.close()
