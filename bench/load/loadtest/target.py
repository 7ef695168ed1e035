"""What is loaded: the demo, started here, or a server somebody names. And what it says of itself."""

import collections
import contextlib
import http.client
import ipaddress
import json
import os
import re
import socket
import urllib.parse

from runner.process import Failure, free_port, started

ASK_TIMEOUT_S = 2

Target = collections.namedtuple("Target", "name address port authority path mine admin pids")


def resolve(host, port):
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Failure("cannot resolve %s: %s" % (host, error)) from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return found[0][4][0]


def parse_url(text, mine):
    """The parts of a URL that may be loaded; Failure says why it may not."""
    parts = urllib.parse.urlsplit(text)
    if parts.scheme != "http" or not parts.hostname:
        raise Failure("%s: the load speaks plain HTTP only: http://HOST:PORT/PATH" % text)
    try:
        port = parts.port or 80
    except ValueError:
        raise Failure("%s: not a port" % text) from None
    address = resolve(parts.hostname, port)
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback and mine != parts.hostname:
        raise Failure(
            "%s is not this machine, and a load test of somebody else's server is an attack. If it is yours and "
            "everything on the way to it may be loaded, say so: --host-is-mine %s" % (parts.hostname, parts.hostname))
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    return address, port, parts.netloc, path


def target_of_url(options):
    address, port, authority, path = parse_url(options.url, options.host_is_mine)
    admin = None
    if options.admin:
        admin_address, admin_port, _, _ = parse_url(options.admin, options.host_is_mine)
        admin = (admin_address, admin_port)
    for pid in options.watch:
        if not os.path.isdir("/proc/%d" % pid):
            raise Failure("--watch: there is no process %d" % pid)
    return Target(options.url, address, port, authority, path, options.host_is_mine is not None, admin, options.watch)


@contextlib.contextmanager
def demo(sluice, core):
    """The gateway in front of a simulated model, one process, on one core."""
    if not os.access(sluice, os.X_OK):
        raise Failure("%s is not there: ./build.sh build" % sluice)
    port, admin = free_port(), free_port()
    with started("sluice demo", [sluice, "demo", "--port", str(port), "--admin-port", str(admin)], core,
                 [port, admin]) as process:
        yield Target("sluice demo", "127.0.0.1", port, "127.0.0.1:%d" % port, "/", False, ("127.0.0.1", admin),
                     process.pids())


# ---- what sluice says of itself

def ask(admin, path):
    """The body, or None when there is nobody to ask."""
    connection = http.client.HTTPConnection(*admin, timeout=ASK_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def requests_counted(admin):
    """How many requests the server has answered, by its own count."""
    body = ask(admin, "/metrics") if admin else None
    if body is None or b"http_requests_total" not in body:
        return None
    samples = re.findall(rb"^http_requests_total(?:\{[^\n]*\})? (\S+)$", body, re.MULTILINE)
    return sum(float(sample) for sample in samples)


def performance(admin):
    """The figures of /api/performance that the report draws; None when this is no sluice."""
    body = ask(admin, "/api/performance?history=0") if admin else None
    try:
        return distil(json.loads(body)) if body is not None else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def distil(figures):
    models, cache = figures["models"], figures.get("cache") or {}
    limits = [model["limit"] for model in models if model.get("limit") is not None]
    counted = [cache.get(name) or 0 for name in ("hits", "joins", "misses")]
    return {"in_flight": sum(model["in_flight"] for model in models), "limit": sum(limits) if limits else None,
            "queued": sum(model["queued"]["requests"] for model in models),
            "shed": sum(sum(model["shed"].values()) for model in models),
            "served_by_cache": counted[0] + counted[1], "asked_of_cache": sum(counted),
            "pressure": (figures.get("pressure") or {}).get("level"),
            "lag_ms": max((w.get("loop_lag_max_ms") or 0 for w in figures["workers"]), default=None)}
