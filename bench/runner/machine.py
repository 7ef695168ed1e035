"""The machine: which cores to use, how many descriptors, and what to write down about it."""

import collections
import os
import platform
import resource

from runner.process import Failure

Cores = collections.namedtuple("Cores", "server load")

DESCRIPTORS = 65536     # the load's tables end there


def siblings(core):
    try:
        with open("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list" % core) as file:
            return file.read().strip()
    except OSError:
        return str(core)


def choose_cores(server, load):
    """Two different cores this process may run on, not two threads of one core unless there is nothing else."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Failure("two cores are needed, one for the server and one for the load; this process may use %d"
                      % len(allowed))
    for core in (server, load):
        if core is not None and core not in allowed:
            raise Failure("core %d is not among those this process may use: %s" % (core, allowed))
    if server is None:
        server = next(core for core in allowed if core != load)
    if load is None:
        others = [core for core in allowed if core != server]
        load = next((core for core in others if siblings(core) != siblings(server)), others[0])
    if server == load:
        raise Failure("server and load need different cores")
    return Cores(server, load)


def raise_descriptor_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((DESCRIPTORS, max(hard, DESCRIPTORS)), (min(hard, DESCRIPTORS), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            return
        except (ValueError, OSError):
            continue


def describe():
    cpu = platform.processor() or "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(),
            "load_average_at_start": os.getloadavg()[0]}
