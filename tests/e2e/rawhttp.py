"""A client that says exactly what it is told and reads answers strictly.

Ordinary clients forgive: this one raises on anything in an answer that RFC 9112 forbids, so that every test that uses
it checks the framing of what it gets, too.
"""

import re
import socket
import struct
import time

TOKEN = re.compile(rb"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")
STATUS_LINE = re.compile(rb'^HTTP/1\.([01]) ([0-9]{3}) ([^\r\n\0]*)$')


class Malformed(AssertionError):
    """The answer is not valid HTTP/1.1."""


class Ended(Exception):
    """The connection ended before the answer did. `how` is 'fin' or 'reset'."""

    def __init__(self, how, got=b''):
        super().__init__(f'the connection ended ({how}) with {bytes(got[:200])!r} unread')
        self.how = how


class Fields:
    """Header fields in the order they came; names compare without regard to case."""

    def __init__(self, lines):
        self.items = []
        for line in lines:
            name, colon, value = line.partition(b':')
            if not colon or not TOKEN.match(name):
                raise Malformed(f'a field line: {line!r}')
            if re.search(rb'[\0\r\n]', value):
                raise Malformed(f'a field value: {line!r}')
            self.items.append((name.decode(), value.strip(b' \t').decode('latin-1')))

    def all(self, name):
        return [v for n, v in self.items if n.lower() == name.lower()]

    def get(self, name, otherwise=None):
        found = self.all(name)
        if len(found) > 1:
            raise Malformed(f'{name} stands {len(found)} times: {found}')
        return found[0] if found else otherwise

    def __contains__(self, name):
        return bool(self.all(name))

    def __getitem__(self, name):
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __repr__(self):
        return repr(self.items)


class Response:
    def __init__(self, minor, status, reason, fields):
        self.minor, self.status, self.reason, self.fields = minor, status, reason, fields
        self.body = b''
        self.trailers = None
        self.chunks = None  # the sizes, when it was chunked

    def keeps_alive(self):
        tokens = [t.strip().lower() for v in self.fields.all('connection') for t in v.split(',')]
        return 'close' not in tokens

    def __repr__(self):
        return f'<{self.status} {self.fields!r} {self.body[:300]!r}>'


class Stream:
    """Buffered reading from a socket, which both sides of a conversation use."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = bytearray()
        self.received = 0  # bytes, all in all
        self.how = None    # it ended: 'fin' or 'reset'

    def fill(self):
        """Waits for more bytes; False when the connection has ended."""
        if self.how is None:
            try:
                got = self.sock.recv(262144)
                if got:
                    self.received += len(got)
                    self.buffer += got
                    return True
                self.how = 'fin'
            except ConnectionError:
                self.how = 'reset'
        return False

    def need(self, count):
        while len(self.buffer) < count:
            if not self.fill():
                raise Ended(self.how, self.buffer)
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def until(self, mark, most=1 << 22):
        searched = 0
        while True:
            at = self.buffer.find(mark, max(0, searched - len(mark)))
            if at >= 0:
                taken = bytes(self.buffer[:at])
                del self.buffer[:at + len(mark)]
                return taken
            searched = len(self.buffer)
            if searched > most:
                raise Malformed('no end of a head in sight')
            if not self.fill():
                raise Ended(self.how, self.buffer)

    def chunk(self):
        """The next chunk's bytes; b'' is the last, after which the trailers follow."""
        line = self.until(b'\r\n')
        if not re.match(rb'^[0-9A-Fa-f]+$', line):
            raise Malformed(f'a chunk size: {line!r}')
        size = int(line, 16)
        if size == 0:
            return b''
        data = self.need(size)
        if self.need(2) != b'\r\n':
            raise Malformed('no CR LF behind a chunk')
        return data

    def trailers(self):
        lines = []
        while True:
            line = self.until(b'\r\n')
            if not line:
                return Fields(lines)
            lines.append(line)

    def rest(self):
        """Everything up to the end of the connection."""
        while self.fill():
            pass
        taken = bytes(self.buffer)
        self.buffer.clear()
        return taken


class Client(Stream):
    def __init__(self, address, timeout=20, receive_buffer=None):
        if isinstance(address, str) and address.startswith('unix:'):
            sock = socket.socket(socket.AF_UNIX)
            target = address[len('unix:'):]
        else:
            host, port = address if isinstance(address, tuple) else address.rsplit(':', 1)
            host = host.strip('[]')
            sock = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
            target = (host, int(port))
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(timeout)
        try:
            sock.connect(target)
        except BaseException:
            sock.close()
            raise
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, data):
        self.sock.sendall(data.encode('latin-1') if isinstance(data, str) else data)

    def send_slowly(self, data, piece=1, pause=0.002):
        data = data.encode('latin-1') if isinstance(data, str) else data
        for at in range(0, len(data), piece):
            self.sock.sendall(data[at:at + piece])
            time.sleep(pause)

    def head(self):
        """The next head, be it of an interim response."""
        lines = self.until(b'\r\n\r\n').split(b'\r\n')
        match = STATUS_LINE.match(lines[0])
        if not match:
            raise Malformed(f'a status line: {lines[0]!r}')
        fields = Fields(lines[1:])
        if 'content-length' in fields and 'transfer-encoding' in fields:
            raise Malformed('Content-Length with Transfer-Encoding')
        return Response(int(match[1]), int(match[2]), match[3].decode('latin-1'), fields)

    def body_of(self, response, method='GET'):
        fields = response.fields
        if method == 'HEAD' or response.status in (204, 304) or response.status < 200:
            if response.status == 204 and ('content-length' in fields or 'transfer-encoding' in fields):
                raise Malformed('a 204 with a body')
            return response
        if 'transfer-encoding' in fields:
            if fields['transfer-encoding'] != 'chunked':
                raise Malformed(f'Transfer-Encoding: {fields["transfer-encoding"]}')
            pieces, response.chunks = [], []
            while True:
                data = self.chunk()
                if not data:
                    break
                pieces.append(data)
                response.chunks.append(len(data))
            response.body = b''.join(pieces)
            response.trailers = self.trailers()
        elif 'content-length' in fields:
            if not re.match(r'^[0-9]+$', fields['content-length']):
                raise Malformed(f'Content-Length: {fields["content-length"]}')
            response.body = self.need(int(fields['content-length']))
        else:
            response.body = self.rest()
            if self.how != 'fin':
                raise Ended(self.how, response.body)
        return response

    def response(self, method='GET'):
        """The next response that is not interim, with its body."""
        while True:
            response = self.head()
            if response.status >= 200 or response.status == 101:
                return self.body_of(response, method)

    def request(self, data, method=None):
        self.send(data)
        if method is None:
            method = (data if isinstance(data, str) else data.decode('latin-1')).split(' ', 1)[0]
        return self.response(method)

    def end(self):
        """Waits for the connection's end, which must come without another byte: 'fin' or 'reset'."""
        left = self.rest()
        if left:
            raise Malformed(f'bytes behind the answer: {left[:200]!r}')
        return self.how

    def is_open(self, seconds=0.15):
        """Nothing comes for so long, and no end."""
        timeout = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            return not self.fill() and self.how is None
        except (socket.timeout, TimeoutError):
            return True
        finally:
            self.sock.settimeout(timeout)


def get(address, path='/', host='test', fields='', method='GET', timeout=20):
    """One request on a connection of its own."""
    with Client(address, timeout=timeout) as client:
        return client.request(f'{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n')


def post(address, path, body, fields='', host='test', timeout=20):
    body = body.encode() if isinstance(body, str) else body
    with Client(address, timeout=timeout) as client:
        client.send(f'POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{fields}\r\n'.encode() + body)
        return client.response('POST')


def events(body):
    """The data of the server-sent events in `body`."""
    found = []
    for event in body.split(b'\n\n'):
        lines = [line[5:].lstrip(b' ') for line in event.split(b'\n') if line.startswith(b'data:')]
        if lines:
            found.append(b'\n'.join(lines))
    return found


def wait_until(condition, seconds=5, what='what was waited for'):
    """Polls until condition() is true, and returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'{what} did not come about in {seconds} s')
        time.sleep(0.005)
