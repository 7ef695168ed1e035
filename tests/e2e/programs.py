"""Starts and stops the built programs, by pid, and keeps what they say."""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time

from backend import Backend
from rawhttp import get

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get('SLUICE_BUILD', os.path.join(ROOT, 'build', 'release'))
PRESET = os.environ.get('SLUICE_PRESET', os.path.basename(BUILD))
SANITIZED = PRESET in ('debug', 'tsan')
# A worker's receive buffers become resident as they are first used, and stay: no growth that goes on.
RECEIVE_BUFFERS_KB = 16384
SLUICE = os.path.join(BUILD, 'sluice')
SIM = os.path.join(BUILD, 'sluice-sim')
STOP_SECONDS = 15


class Program:
    """A process whose output is read as it comes."""

    def __init__(self, command, ready, name, seconds=20, preexec=None, env=None, pass_fds=()):
        self.name = name
        self.lines = []  # of standard error
        self.output = []  # of standard output
        self.changed = threading.Condition()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, preexec_fn=preexec, env=env, pass_fds=pass_fds)
        self.pid = self.process.pid
        self.readers = [threading.Thread(target=self.read, args=(pipe, into), daemon=True)
                        for pipe, into in ((self.process.stderr, self.lines), (self.process.stdout, self.output))]
        for reader in self.readers:
            reader.start()
        if ready:
            try:
                self.wait_line(ready, seconds)
            except AssertionError:
                self.kill()
                self.print_log()
                raise

    def read(self, pipe, into):
        for line in iter(pipe.readline, b''):
            with self.changed:
                into.append(line.decode('utf-8', 'replace').rstrip('\n'))
                self.changed.notify_all()
        pipe.close()

    def find(self, pattern):
        for line in self.lines + self.output:
            match = re.search(pattern, line)
            if match:
                return match
        return None

    def wait_line(self, pattern, seconds=10):
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                match = self.find(pattern)
                if match:
                    return match
                left = end - time.monotonic()
                if left <= 0 or self.process.poll() is not None and not any(r.is_alive() for r in self.readers):
                    raise AssertionError(f'{self.name} did not say /{pattern}/ (exit code {self.process.poll()})')
                self.changed.wait(min(left, 0.1))

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, seconds=STOP_SECONDS):
        """The exit code; a process that does not end is killed and is an error."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f'{self.name} did not end in {seconds} s') from None
        for reader in self.readers:
            reader.join(5)
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def is_running(self):
        return self.process.poll() is None

    def stop(self):
        """SIGTERM; it must exit with 0."""
        if self.is_running():
            self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f'{self.name} exited with {code}'

    def print_log(self):
        print(f'---- {self.name} (pid {self.pid})')
        for line in self.output[-100:]:
            print('  > ' + line[:400])
        for line in self.lines[-200:]:
            print('  | ' + line[:400])

    def resident_kb(self):
        """Private and shared memory in use, from smaps_rollup."""
        with open(f'/proc/{self.pid}/smaps_rollup', encoding='ascii') as f:
            return int(re.search(r'^Rss:\s+(\d+) kB', f.read(), re.M).group(1))

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.pid}/fd'))


class Gateway(Program):
    """`sluice serve` with a configuration given as a dict (JSON is YAML)."""

    def __init__(self, config, prefix=(), **kwargs):
        self.config = config
        self.folder = tempfile.TemporaryDirectory(prefix='sluice-test-')
        path = os.path.join(self.folder.name, 'config.yaml')
        with open(path, 'w', encoding='ascii') as f:
            json.dump(config, f, indent=1)
        try:
            super().__init__([*prefix, SLUICE, 'serve', path], r'starting \d+ worker', 'sluice', **kwargs)
            self.addresses, self.admin = [], None
            for line in self.lines:
                match = re.search(r'listening on (\S+)( \(admin\))?', line)
                if match and match[2]:
                    self.admin = match[1]
                elif match:
                    self.addresses.append(match[1])
            self.address = self.addresses[0]
            self.port = int(self.address.rsplit(':', 1)[1]) if not self.address.startswith('unix:') else None
        finally:
            self.folder.cleanup()

    @property
    def url(self):
        return f'http://{self.address}'

    def metrics(self):
        from metrics_text import parse
        return parse(get(self.admin, '/metrics').body.decode())

    def access_log(self, count=1, seconds=5):
        """The access log's lines once there are so many."""
        end = time.monotonic() + seconds
        while len(self.output) < count and time.monotonic() < end:
            time.sleep(0.02)
        return [json.loads(line) for line in list(self.output)]


class Sim(Program):
    def __init__(self, *arguments):
        super().__init__([SIM, '--listen', '127.0.0.1:0', *arguments], r'listening on \S+', 'sluice-sim')
        self.address = self.find(r'listening on (\S+)')[1]

    @property
    def url(self):
        return f'http://{self.address}'

    def metrics(self):
        from metrics_text import parse
        return parse(get(self.address, '/metrics').body.decode())


def http_route(upstream='backend', path='/', **more):
    route = {'path_prefix': path, 'http': {'upstream': upstream}}
    for key in ('body_bytes_max', 'half_close_is_departure'):
        if key in more:
            route['http'][key] = more.pop(key)
    route.update(more)
    return route


def inference_route(upstream='backend', path='/', **more):
    route = http_route(upstream, path, **more)
    route['inference'] = route.pop('http')
    return route


def respond_route(path='/', **respond):
    return {'path': path, 'respond': respond}


class World:
    """Everything a test starts. The end stops it all and insists that it went well."""

    def __init__(self):
        self.gateways, self.sims, self.backends, self.others = [], [], [], []

    def gateway(self, routes=None, upstreams=None, endpoints=None, start=None, **more):
        """One worker, a listener and an admin on free ports; `endpoints` is short for one upstream called backend."""
        config = {'workers': 1, 'pin': False, 'listeners': [{'address': '127.0.0.1:0'}],
                  'admin': {'address': '127.0.0.1:0'}}
        upstream = more.pop('upstream', {})
        if endpoints is not None:
            endpoints = [e if isinstance(e, str) else e.address for e in endpoints]
            upstreams = [{'name': 'backend', 'endpoints': endpoints, **upstream}]
        if upstreams:
            config['upstreams'] = upstreams
        config['routes'] = routes if routes is not None else [http_route()]
        config.update(more)
        gateway = Gateway({k: v for k, v in config.items() if v is not None}, **(start or {}))
        self.gateways.append(gateway)
        return gateway

    def in_front_of(self, script=None, routes=None, kind='ipv4', **more):
        """A raw backend with this script and a gateway in front of it."""
        backend = self.backend(script, kind)
        return backend, self.gateway(routes, endpoints=[backend], **more)

    def sim(self, *arguments):
        sim = Sim(*arguments)
        self.sims.append(sim)
        return sim

    def backend(self, script=None, kind='ipv4', **more):
        backend = Backend(script, kind, **more)
        self.backends.append(backend)
        return backend

    def program(self, command, ready=None, name=None, **more):
        program = Program(command, ready, name or os.path.basename(command[0]), **more)
        self.others.append(program)
        return program

    def close(self):
        wrong = []
        for program in self.gateways + self.sims:
            try:
                if program.process.returncode is None:
                    program.stop()
            except AssertionError as e:
                wrong.append(str(e))
        for other in self.others:
            other.kill()
        for backend in self.backends:
            try:
                backend.close()
            except Exception as e:  # pylint: disable=broad-except
                wrong.append(f'backend: {type(e).__name__}: {e}')
        for program in self.gateways + self.sims + self.others:
            program.print_log()
        assert not wrong, '; '.join(wrong)
