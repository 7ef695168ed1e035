"""A backend that a test scripts byte by byte, and that counts every byte it gets."""

import os
import socket
import struct
import tempfile
import threading

from rawhttp import Ended, Fields, Malformed, Stream


class Request:
    def __init__(self, head):
        lines = head.split(b'\r\n')
        parts = lines[0].decode('latin-1').split(' ')
        if len(parts) != 3:
            raise Malformed(f'a request line: {lines[0]!r}')
        self.method, self.target, self.version = parts
        self.fields = Fields(lines[1:])
        self.raw = head
        self.body = None
        self.trailers = None

    def __repr__(self):
        return f'<{self.method} {self.target} {self.fields!r}>'


class Peer(Stream):
    """One connection as the backend sees it."""

    def __init__(self, backend, sock, number):
        super().__init__(sock)
        self.backend = backend
        self.number = number
        self.requests = []

    def request(self, body=True):
        """The next request, or None when the connection ended before one began."""
        try:
            head = self.until(b'\r\n\r\n')
        except Ended as ended:
            if self.buffer:
                self.backend.note(f'connection {self.number} ended ({ended.how}) in the middle of a head')
            return None
        request = Request(head)
        self.requests.append(request)
        with self.backend.lock:
            self.backend.requests.append(request)
        if body:
            self.body(request)
        return request

    def body(self, request):
        """Reads the body; raises Ended when it is cut off."""
        fields = request.fields
        if 'transfer-encoding' in fields and 'content-length' in fields:
            raise Malformed('the gateway sent both framings')
        if 'transfer-encoding' in fields:
            pieces = []
            while True:
                piece = self.chunk()
                if not piece:
                    break
                pieces.append(piece)
            request.body = b''.join(pieces)
            request.trailers = self.trailers()
        else:
            request.body = self.need(int(fields.get('content-length', '0')))
        return request.body

    def send(self, data):
        self.sock.sendall(data.encode('latin-1') if isinstance(data, str) else data)

    def answer(self, body=b'ok', status='200 OK', fields=''):
        body = body.encode() if isinstance(body, str) else body
        self.send(f'HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n'.encode('latin-1') + body)

    def wait_end(self):
        """Reads away whatever comes until the connection ends: 'fin' or 'reset'."""
        self.rest()
        return self.how

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.sock.close()


def keep_answering(answer):
    """A script: reads requests as they come and answers each with answer(peer, request), or with those bytes."""
    def script(peer):
        while True:
            request = peer.request()
            if request is None:
                return
            if callable(answer):
                answer(peer, request)
            else:
                peer.send(answer)
    return script


def echo(peer, request):
    peer.answer(request.body or b'', fields='Content-Type: application/octet-stream\r\n')


OK = b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok'


class Backend:
    """`script(peer)` runs on a thread of its own for every connection; the connection is closed when it returns."""

    def __init__(self, script=None, kind='ipv4', timeout=20, receive_buffer=None):
        self.script = script or keep_answering(OK)
        self.timeout = timeout
        self.lock = threading.Lock()
        self.peers = []
        self.requests = []
        self.faults = []
        self.folder = None
        if kind == 'unix':
            self.folder = tempfile.TemporaryDirectory(prefix='sluice-test-')
            path = os.path.join(self.folder.name, 'backend.sock')
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(path)
            self.address = 'unix:' + path
        else:
            self.sock = socket.socket(socket.AF_INET6 if kind == 'ipv6' else socket.AF_INET)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if receive_buffer:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.sock.bind(('::1' if kind == 'ipv6' else '127.0.0.1', 0))
            self.port = self.sock.getsockname()[1]
            self.address = f'[::1]:{self.port}' if kind == 'ipv6' else f'127.0.0.1:{self.port}'
        self.sock.listen(1024)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            sock.settimeout(self.timeout)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                peer = Peer(self, sock, len(self.peers))
                self.peers.append(peer)
            threading.Thread(target=self.run, args=(peer,), daemon=True).start()

    def run(self, peer):
        try:
            self.script(peer)
        except (Ended, ConnectionError, socket.timeout, TimeoutError) as e:
            self.note(f'connection {peer.number}: {type(e).__name__}: {e}')
        except OSError as e:
            self.note(f'connection {peer.number}: {e}')
        except Exception as e:  # pylint: disable=broad-except
            self.note(f'connection {peer.number}: {type(e).__name__}: {e}')
            self.faults.append(e)
        finally:
            try:
                peer.sock.close()
            except OSError:
                pass

    def note(self, words):
        print(f'backend {self.address}: {words}')

    @property
    def received(self):
        """Bytes that came, on all connections."""
        with self.lock:
            return sum(p.received for p in self.peers)

    @property
    def connections(self):
        with self.lock:
            return len(self.peers)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        with self.lock:
            peers = list(self.peers)
        for peer in peers:
            try:
                peer.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if self.folder:
            self.folder.cleanup()
        if self.faults:
            raise self.faults[0]
