"""Who is compared: how each is found, configured and started. All run one worker on one core, keep connections alive on
both sides, log nothing per request, and are tuned as their own documentation recommends."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import urllib.request

from runner.process import free_port, started

STATIC_BODY = "x" * 1024
NGINX = """
{user}
worker_processes 1;
daemon off;
pid {dir}/pid;
error_log stderr crit;
events {{ worker_connections 32768; multi_accept on; use epoll; }}
http {{
    access_log off;
    default_type text/plain;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
    scgi_temp_path {dir}/s;
    upstream backend {{
        server 127.0.0.1:{backend};
        keepalive 512;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 600s;
    proxy_buffer_size 16k;
    proxy_buffers 8 16k;
    proxy_busy_buffers_size 64k;
    proxy_max_temp_file_size 0;
    server {{
        listen 127.0.0.1:{port} backlog=4096 reuseport;
        location = /static {{ return 200 "{body}"; }}
        location /v1/ {{ proxy_pass http://backend; proxy_buffering off; }}
        location /bytes/ {{ proxy_pass http://backend; proxy_request_buffering off; }}
        location / {{ proxy_pass http://backend; }}
    }}
}}
"""
HAPROXY = """
global
    nbthread 1
    maxconn 12000
    no strict-limits
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
frontend front
    bind 127.0.0.1:{port} backlog 4096
    option http-no-delay
    http-request return status 200 content-type text/plain string "{body}" if {{ path /static }}
    default_backend back
backend back
    option http-no-delay
    server one 127.0.0.1:{backend}
"""
NGINX_CACHE = """
{user}
worker_processes 1;
daemon off;
pid {dir}/pid;
error_log stderr crit;
events {{ worker_connections 32768; multi_accept on; use epoll; }}
http {{
    access_log off;
    default_type text/plain;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=600s;
    open_file_cache_valid 600s;
    client_body_temp_path {dir}/body; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    proxy_cache_path {dir}/cache levels=1:2 keys_zone=bench:8m max_size=128m inactive=600m use_temp_path=off;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    server {{
        listen 127.0.0.1:{port} backlog=4096 reuseport;
        location / {{ proxy_pass http://127.0.0.1:{backend}; proxy_cache bench; }}
    }}
}}
"""
HAPROXY_CACHE = """
global
    nbthread 1
    maxconn 12000
    no strict-limits
    tune.bufsize {buffer_bytes}
    tune.maxrewrite 1024
cache bench
    total-max-size 64
    max-object-size 1048576
    max-age 3600
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
frontend front
    bind 127.0.0.1:{port} backlog 4096
    option http-no-delay
    http-request cache-use bench
    http-response cache-store bench
    default_backend back
backend back
    option http-no-delay
    server one 127.0.0.1:{backend}
"""
SLUICE_CACHE = """
workers: 1
pin: true
listeners:
  - address: 127.0.0.1:{port}
admin:
  address: 127.0.0.1:{admin}
cache: {{ memory: 256MB }}
upstreams:
  - name: backend
    endpoints: ["127.0.0.1:{backend}"]
routes:
  - path_prefix: /
    http: {{ upstream: backend, cache: true }}
"""
SLUICE = """
workers: 1
pin: true
listeners:
  - address: 127.0.0.1:{port}
admin:
  address: 127.0.0.1:{admin}
upstreams:
  - name: backend
    endpoints: ["127.0.0.1:{backend}"]
routes:
  - path: /static
    respond: {{ status: 200, content_type: text/plain, body: "{body}" }}
  - path_prefix: /v1
    inference: {{ upstream: backend }}
  - path_prefix: /
    http: {{ upstream: backend }}
"""


class Contender:
    """`serve` starts a server in front of a backend's port (or of none) and ends it when the context does."""

    name = ""

    def version(self):
        return None

    def serve(self, core, backend):
        raise NotImplementedError

    def serve_cached(self, core, backend, body_bytes):
        """The same, keeping what the backend's answers allow to be kept: `body_bytes` each."""
        raise NotImplementedError

    def is_hit(self, headers):
        """Whether an answer says that it came from the cache; None where it does not say."""
        return None

    def enters(self, server):
        """io_uring_enter calls so far, or None where there is no way to know."""
        return None


class Floor(Contender):
    name = "floor"

    def __init__(self, program):
        self.program = program

    def serve(self, core, backend):
        return self.serve_cached(core, backend, len(STATIC_BODY))

    def serve_cached(self, core, backend, body_bytes):
        port = free_port()
        return started(self.name, [self.program, "--port", str(port), "--body", str(body_bytes)], core, [port])

    def enters(self, server):
        return server.counters()["enters"]


class Relay(Floor):
    name = "relay"

    def serve(self, core, backend):
        port = free_port()
        return started(self.name, [self.program, "--port", str(port), "--upstream", str(backend)], core, [port])


class Configured(Contender):
    """A server that reads a file."""

    executable = None    # when it is not called by the name
    template = cached_template = ""

    def __init__(self, program):
        self.program = program

    def command(self, path, directory, port):
        raise NotImplementedError

    def serve(self, core, backend):
        return self.serve_by(self.template, core, backend)

    def serve_cached(self, core, backend, body_bytes):
        # haproxy sends what it stored buffer by buffer: 64 KB in one piece cost 0.8 of what four do, and at 1 KB the
        # default does better.
        return self.serve_by(self.cached_template, core, backend, max(16384, 2 * body_bytes))

    @contextlib.contextmanager
    def serve_by(self, template, core, backend, buffer_bytes=16384):
        # In memory where that can be had: nginx keeps its cache in files.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="bench-", dir=memory) as directory:
            os.chmod(directory, 0o755)
            port, admin = free_port(), free_port()
            path = os.path.join(directory, "config")
            with open(path, "w") as file:
                # without a backend nothing is forwarded; the port only has to be well-formed
                file.write(template.format(port=port, admin=admin, backend=backend or free_port(), dir=directory,
                                           body=STATIC_BODY, buffer_bytes=buffer_bytes,
                                           user="user root;" if os.geteuid() == 0 else ""))
            with started(self.name, self.command(path, directory, port), core, [port], directory) as server:
                server.admin = admin
                yield server


class Nginx(Configured):
    name = "nginx"
    template, cached_template = NGINX, NGINX_CACHE

    def command(self, path, directory, port):
        return [self.program, "-p", directory, "-c", path, "-e", "stderr"]

    def version(self):
        return subprocess.run([self.program, "-v"], capture_output=True, text=True).stderr.strip()


class Haproxy(Configured):
    name = "haproxy"
    template, cached_template = HAPROXY, HAPROXY_CACHE

    def command(self, path, directory, port):
        return [self.program, "-db", "-f", path]

    def version(self):
        return subprocess.run([self.program, "-v"], capture_output=True, text=True).stdout.splitlines()[0]


class Varnish(Configured):
    """Only a cache; there is nothing in the other scenarios that it is for."""

    name = "varnish"
    executable = "varnishd"
    cached_template = """vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{backend}"; }}
"""

    def command(self, path, directory, port):
        return [self.program, "-F", "-j", "none", "-n", directory, "-f", path, "-a", "127.0.0.1:%d" % port,
                "-s", "malloc,256m", "-p", "thread_pools=1", "-p", "timeout_idle=600"]

    def version(self):
        return subprocess.run([self.program, "-V"], capture_output=True, text=True).stderr.splitlines()[0]


class Sluice(Configured):
    name = "sluice"
    template, cached_template = SLUICE, SLUICE_CACHE

    def is_hit(self, headers):
        return any(re.match(r"\s*sluice\s*(;[^,]*)?;\s*hit\b", value) for value in headers.get_all("Cache-Status", []))

    def command(self, path, directory, port):
        return [self.program, "serve", path]

    def version(self):
        return os.path.relpath(self.program)

    def enters(self, server):
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % server.admin, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        found = re.findall(r"^\w*enters\w*(?:\{[^}]*\})?\s+([0-9.eE+]+)", text, re.MULTILINE)
        return int(sum(float(value) for value in found)) if found else None


CONTENDERS = ("floor", "relay", "sluice", "nginx", "haproxy", "varnish")


def find_contenders(programs, sluice):
    """Those that can run, by name, and why the others cannot."""
    present, missing = {}, {}
    present["floor"] = Floor(programs["floor"])
    present["relay"] = Relay(programs["relay"])
    if os.access(sluice, os.X_OK):
        present["sluice"] = Sluice(os.path.abspath(sluice))
    else:
        missing["sluice"] = "there is no %s" % sluice
    search = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    for kind in (Nginx, Haproxy, Varnish):
        program = shutil.which(kind.executable or kind.name, path=search)
        if program:
            present[kind.name] = kind(program)
        else:
            missing[kind.name] = "not installed (apt-get install %s)" % kind.name
    return present, missing
