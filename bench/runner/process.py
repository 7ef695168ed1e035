"""Starting, asking and ending processes. Everything started here is ended here, by its own id."""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time

START_TIMEOUT_S = 15
STOP_TIMEOUT_S = 10
PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """Something the person at the terminal can act on."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Programs:
    """The C programs beside this script, built."""

    NAMES = ("floor", "relay", "load", "ticker", "bulk")

    def __init__(self, directory):
        missing = [name for name in self.NAMES if not os.access(os.path.join(directory, name), os.X_OK)]
        if missing:
            raise Failure("%s not found in %s; ./build.sh bench builds them" % (", ".join(missing), directory))
        self.directory = directory

    def __getitem__(self, name):
        return os.path.join(self.directory, name)


class Process:
    """One program on one core; its children, as nginx has, are counted with it."""

    def __init__(self, name, command, core, ports=(), cwd=None):
        self.name = name
        self.ports = list(ports)
        self.errors = tempfile.TemporaryFile()
        libc = ctypes.CDLL(None)

        def before_exec():
            os.sched_setaffinity(0, {core})
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)    # even when this script is killed outright

        self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
                                      cwd=cwd, preexec_fn=before_exec, start_new_session=True)

    def error_text(self):
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "no message"

    def wait_ready(self):
        """Returns when every port takes a connection."""
        deadline = time.monotonic() + START_TIMEOUT_S
        for port in self.ports:
            while True:
                if self.popen.poll() is not None:
                    raise Failure("%s ended at once with status %d: %s"
                                  % (self.name, self.popen.returncode, self.error_text()))
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise Failure("%s does not listen on port %d after %d s: %s"
                                      % (self.name, port, START_TIMEOUT_S, self.error_text())) from None
                    time.sleep(0.02)

    def pids(self):
        """This process and all below it."""
        found, todo = [], [self.popen.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in os.listdir("/proc/%d/task" % pid):
                    with open("/proc/%d/task/%s/children" % (pid, task)) as file:
                        todo += [int(child) for child in file.read().split()]
        return found

    def counters(self):
        """Asks one of our own programs for its line of counters."""
        self.popen.send_signal(signal.SIGUSR1)
        return json.loads(self.read_line(5))

    def read_line(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.popen.stdout], [], [], max(0, deadline - time.monotonic()))
            byte = os.read(self.popen.stdout.fileno(), 1) if ready else b""
            if not byte:
                raise Failure("%s says nothing: %s" % (self.name, self.error_text()))
            line += byte
        return line

    def stop(self):
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self.popen.stdout.close()
        self.errors.close()


@contextlib.contextmanager
def started(name, command, core, ports=(), cwd=None):
    process = Process(name, command, core, ports, cwd)
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


# ---- memory


def memory_bytes(pids):
    """What these processes have to themselves, and all they have mapped in, from smaps_rollup."""
    private = resident = 0
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid) as file:
            for line in file:
                field, _, rest = line.partition(":")
                if field in ("Private_Clean", "Private_Dirty"):
                    private += int(rest.split()[0]) * 1024
                elif field == "Rss":
                    resident += int(rest.split()[0]) * 1024
    return private, resident


def peak_reset(pids):
    for pid in pids:
        with open("/proc/%d/clear_refs" % pid, "w") as file:
            file.write("5")


def peak_bytes(pids):
    peak = 0
    for pid in pids:
        with open("/proc/%d/status" % pid) as file:
            peak += next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    return peak
