"""Which system calls a running server makes for each request: by perf where it works (at full speed), else by strace (a
slowed server finds more work waiting each time it looks, so a little fewer calls per request)."""

import os
import re
import shutil
import signal
import subprocess
import time

# perf needs a while for each tracepoint it opens, so the usual calls are named and the rest is a difference.
NAMED = ("io_uring_enter", "epoll_wait", "epoll_ctl", "recvfrom", "sendto", "recvmsg", "sendmsg", "read", "write",
         "readv", "writev", "accept4", "connect", "socket", "close", "shutdown", "setsockopt", "getsockopt", "futex",
         "clock_gettime")
SPAN_S = 1.0


def by_perf(pids, count):
    """Counts for a second, and the answers of a second just before and just after."""
    events = "raw_syscalls:sys_enter," + ",".join("syscalls:sys_enter_" + name for name in NAMED)
    began, start = count(), time.monotonic()
    time.sleep(SPAN_S / 2)
    result = subprocess.run(["perf", "stat", "-x", ",", "-e", events, "-p", ",".join(map(str, pids)),
                             "sleep", str(SPAN_S)], capture_output=True, text=True, timeout=60)
    time.sleep(SPAN_S / 2)
    answers = (count() - began) / (time.monotonic() - start) * SPAN_S
    calls = {}
    for line in result.stderr.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdigit():
            calls[fields[2].split(":")[-1].removeprefix("sys_enter_")] = int(fields[0])
    if "sys_enter" not in calls:
        return None
    total = calls.pop("sys_enter")
    others = total - sum(calls.values())
    names = unnamed_by_strace(pids) if others > answers / 100 else []
    calls["others (%s)" % " ".join(names) if names else "others"] = others
    return calls, answers


def unnamed_by_strace(pids):
    """The names of the calls that are not in NAMED, most frequent first; empty where strace cannot say."""
    found = by_strace(pids, lambda: 0) if shutil.which("strace") else None
    calls = found[0] if found else {}
    return [name for name in sorted(calls, key=lambda name: -calls[name]) if name not in NAMED][:3]


def by_strace(pids, count):
    command = ["strace", "-c", "-f", "-q", "-o", "/dev/stdout"] + [word for pid in pids for word in ("-p", str(pid))]
    tracer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    time.sleep(0.05)        # attached; before that the server runs at full speed and is not counted
    began = count()
    time.sleep(SPAN_S * 2)
    answers = count() - began
    tracer.send_signal(signal.SIGINT)
    text, _ = tracer.communicate(timeout=30)
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", text, re.MULTILINE)
    calls = {name: int(number) for number, name in rows if name != "total"}
    return (calls, answers) if calls else None


def per_answer(pids, count):
    """Calls per answer by name, with what counted them; None when nothing here can. `count` says how many answers the
    load has had so far."""
    for name, method in (("perf", by_perf), ("strace", by_strace)):
        if shutil.which(name) and (os.geteuid() == 0 or name == "strace"):
            found = method(pids, count)
            if found and found[1] > 0:
                return {"by": name, "calls": {call: round(number / found[1], 5)
                                              for call, number in sorted(found[0].items()) if number > 0}}
    return None
