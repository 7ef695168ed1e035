"""What the target does over time: looked at from outside so often, while the load runs."""

import contextlib
import os
import threading
import time

from loadtest import target as targets


def process_figures(pids):
    """Resident memory, descriptors and seconds on a core of all these together; None when they are gone."""
    resident = descriptors = cpu_ns = 0
    found = False
    for pid in pids:
        with contextlib.suppress(OSError):
            with open("/proc/%d/status" % pid) as file:
                resident += next((int(line.split()[1]) for line in file if line.startswith("VmRSS")), 0)
            descriptors += len(os.listdir("/proc/%d/fd" % pid))
            for task in os.listdir("/proc/%d/task" % pid):
                with contextlib.suppress(OSError), open("/proc/%d/task/%s/schedstat" % (pid, task)) as file:
                    cpu_ns += int(file.read().split()[0])
            found = True
    return {"rss_kb": resident, "descriptors": descriptors, "cpu_s": cpu_ns / 1e9} if found else None


class Sampler:
    """A thread that takes a sample each `period_s`, from `start` to `stop`. The samples are its `samples`."""

    def __init__(self, target, period_s):
        self.target, self.period_s = target, period_s
        self.samples = []
        self.began = time.monotonic()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def now(self):
        return time.monotonic() - self.began

    def take(self):
        sample = {"at_s": round(self.now(), 3)}
        sample.update(process_figures(self.target.pids) or {})
        sample.update(targets.performance(self.target.admin) or {})
        self.samples.append(sample)
        return sample

    def run(self):
        due = time.monotonic()
        while not self.ending.is_set():
            self.take()
            due = max(due + self.period_s, time.monotonic())
            self.ending.wait(due - time.monotonic())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
