#!/usr/bin/env python3
"""What docs/tuning.md says was measured, to be measured again.

    unshare -rn python3 bench/tuning/measure.py           # all, about 3 minutes
    unshare -rn python3 bench/tuning/measure.py pause     # one

Each experiment sets net.* keys of a network namespace and looks at what the kernel then does with sockets over
loopback, or over two TUN devices that this program joins with a delay and, if asked, with losses. It refuses to run in
the machine's own namespace. It uses nothing of the server.
"""
import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
PORT = 8080
ONE_WAY_SECONDS = 0.02


def put(key, value):
    with open("/proc/sys/net/" + key, "w", encoding="ascii") as file:
        file.write(str(value))


def sockets(state):
    text = subprocess.run(["ss", "-Htan", "state", state], capture_output=True, text=True, check=True).stdout
    return len(text.splitlines())


def listener(address="127.0.0.1", shared=False, backlog=65535):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address, PORT))
    sock.listen(backlog)
    return sock


def connected(address="127.0.0.1"):
    sock = socket.socket()
    sock.connect((address, PORT))
    return sock


def in_child(function, *args):
    """Each measurement has a namespace of its own, so that none sees another's sockets in TIME_WAIT."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        if LIBC.unshare(CLONE_NEWNET) != 0:
            sys.exit("cannot make a network namespace: run it under unshare -rn")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        function(*args)
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("a measurement failed")


def queue(somaxconn):
    put("core/somaxconn", somaxconn)
    held = listener()
    clients = []
    for _ in range(1000):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(held.getsockname())
        clients.append(client)
    time.sleep(0.5)
    established = sum(c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1 for c in clients)
    print(f"queue: somaxconn {somaxconn}: {established} of 1000 simultaneous connects got in")


def ports(reuse):
    put("core/somaxconn", 65535)
    put("ipv4/ip_local_port_range", "20000 21001")
    put("ipv4/tcp_tw_reuse", reuse)
    held = listener()

    def until_refused(keep):
        count, pairs = 0, []
        try:
            while count < 5000:
                pair = (connected(), held.accept()[0])
                count += 1
                pairs.append(pair)
                if not keep:
                    for sock in pairs.pop():
                        sock.close()
        except OSError:
            pass
        return count, pairs

    count, pairs = until_refused(keep=True)
    for pair in pairs:
        for sock in pair:
            sock.close()
    del pairs
    time.sleep(1.5)
    again = until_refused(keep=False)[0]
    print(f"ports: tcp_tw_reuse {reuse}: {count} connections from 1002 ports; 1.5 s after closing {again} more")


def fin(seconds):
    put("ipv4/tcp_fin_timeout", seconds)
    held = listener()
    ordinary, peer = connected(), held.accept()[0]
    ordinary.close()
    peer.close()
    silent, orphan = connected(), held.accept()[0]
    orphan.close()
    start = time.monotonic()
    gone = {}
    while len(gone) < 2 and time.monotonic() - start < 90:
        for state in ("fin-wait-2", "time-wait"):
            if state not in gone and sockets(state) == 0 and time.monotonic() - start > 1:
                gone[state] = round(time.monotonic() - start)
        time.sleep(0.5)
    silent.close()
    print(f"fin: tcp_fin_timeout {seconds}: gone after (s) {gone}")


def buckets(most):
    put("ipv4/tcp_max_tw_buckets", most)
    held = listener()
    for _ in range(200):
        client, peer = connected(), held.accept()[0]
        client.close()
        peer.close()
    print(f"buckets: tcp_max_tw_buckets {most}: {sockets('time-wait')} of 200 closed connections in TIME_WAIT")


def migrate(on):
    put("ipv4/tcp_migrate_req", on)
    first, second = listener(shared=True), listener(shared=True)
    clients = [connected() for _ in range(200)]
    time.sleep(0.2)
    first.close()
    time.sleep(0.2)
    second.setblocking(False)
    taken = 0
    try:
        while True:
            second.accept()
            taken += 1
    except BlockingIOError:
        pass
    print(f"migrate: tcp_migrate_req {on}: of {len(clients)} waiting on two listeners, one closed: {200 - taken} reset")


def unread(mark):
    put("ipv4/tcp_notsent_lowat", mark)
    held = listener()
    sender = connected()
    reader = held.accept()[0]
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sender.setblocking(False)
    taken = 0
    for _ in range(2):
        try:
            while True:
                taken += sender.send(b"x" * 200)
        except BlockingIOError:
            time.sleep(0.3)
    reader.close()
    print(f"unread: tcp_notsent_lowat {mark}: {taken} bytes in pieces of 200 taken for a reader that sleeps")


def tun(address, peer):
    if LIBC.unshare(CLONE_NEWNET) != 0:
        sys.exit("cannot make a network namespace")
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, 0x400454CA, struct.pack("16sH", b"tun0", 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
    for command in (f"ip addr add {address} peer {peer} dev tun0", "ip link set tun0 mtu 1500 txqueuelen 20000 up"):
        subprocess.run(command.split(), check=True)
    return file, os.open("/proc/self/ns/net", os.O_RDONLY)


def carry(ends, loss, client):
    """Moves packets between the two devices, 20 ms each way; the server's (ends[0]) are lost with probability `loss`."""
    waiting, number = [], 0
    give_up = time.time() + 90
    while time.time() < give_up and os.waitpid(client, os.WNOHANG)[0] == 0:
        while waiting and waiting[0][0] <= time.time():
            _, _, to, packet = heapq.heappop(waiting)
            try:
                os.write(to, packet)
            except OSError:
                pass  # the device's queue is full: one more loss
        pause = max(0, waiting[0][0] - time.time()) if waiting else 0.05
        for end in select.select(ends, [], [], pause)[0]:
            for _ in range(256):
                try:
                    packet = os.read(end, 2048)
                except BlockingIOError:
                    break
                number += 1
                if end == ends[0] and random.random() < loss:
                    continue
                to = ends[1] if end == ends[0] else ends[0]
                heapq.heappush(waiting, (time.time() + ONE_WAY_SECONDS, number, to, packet))


def path(serve, ask, settings, control, loss, seed):
    """serve(socket) in one namespace, ask(socket) in another, 40 ms of round trip between them."""
    random.seed(seed)
    near, near_namespace = tun("10.9.0.1", "10.9.0.2")
    for key, value in settings.items():
        put(key, value)
    held = socket.socket()
    # A namespace may choose by sysctl only among what the first one allows; the socket option may choose any.
    held.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
    held.bind(("10.9.0.1", PORT))
    held.listen(1)
    far, far_namespace = tun("10.9.0.2", "10.9.0.1")
    server = os.fork()
    if server == 0:
        LIBC.setns(near_namespace, CLONE_NEWNET)
        sock = held.accept()[0]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serve(sock)
        os._exit(0)
    client = os.fork()
    if client == 0:
        LIBC.setns(far_namespace, CLONE_NEWNET)
        ask(connected("10.9.0.1"))
        sys.stdout.flush()
        os._exit(0)
    carry([near, far], loss, client)
    os.kill(server, 9)
    os.waitpid(server, 0)


def answer(sock):
    while True:
        asked = sock.recv(8)
        if not asked:
            return
        sock.sendall(b"x" * int(asked))


def fetch_ms(sock, count):
    start = time.monotonic()
    sock.sendall(b"%8d" % count)
    while count > 0:
        count -= len(sock.recv(65536))
    return (time.monotonic() - start) * 1000


def pause(control, restart):
    def ask(sock):
        warm = [fetch_ms(sock, 300_000) for _ in range(8)][-1]
        time.sleep(2.5)
        print(f"pause: {control}, tcp_slow_start_after_idle {restart}: 300 KB over 40 ms in {warm:.0f} ms, "
              f"after 2.5 s of silence in {fetch_ms(sock, 300_000):.0f}")

    path(answer, ask, {"ipv4/tcp_slow_start_after_idle": restart}, control, 0, 1)


def loss(control):
    def ask(sock):
        fetch_ms(sock, 2_000_000)
        print(f"loss: {control}: {8000 / fetch_ms(sock, 8_000_000):.1f} MB/s over 40 ms with 1 % lost")

    path(answer, ask, {}, control, 0.01, 1)


def thin(linear, seed):
    tokens, piece = 300, 200

    def stream(sock):
        for _ in range(tokens):
            sock.sendall(b"x" * piece)
            time.sleep(0.05)

    def ask(sock):
        got, gaps, last = 0, [], time.monotonic()
        while got < tokens * piece:
            got += len(sock.recv(65536))
            now = time.monotonic()
            gaps.append((now - last) * 1000)
            last = now
        gaps.sort()
        print(f"thin: tcp_thin_linear_timeouts {linear}, seed {seed}: a token every 50 ms over 40 ms with 20 % lost: "
              f"gaps p99 {gaps[int(len(gaps) * 0.99)]:.0f}, worst {gaps[-1]:.0f} ms")

    path(stream, ask, {"ipv4/tcp_thin_linear_timeouts": linear}, "cubic", 0.2, seed)


EXPERIMENTS = {
    queue: [(128,), (4096,)],
    ports: [(0,), (1,), (2,)],
    fin: [(5,)],
    buckets: [(20,), (4096,)],
    migrate: [(0,), (1,)],
    unread: [(4294967295,), (131072,), (16384,)],
    pause: [("cubic", 1), ("cubic", 0), ("bbr", 1), ("bbr", 0)],
    loss: [("cubic",), ("bbr",)],
    thin: [(linear, seed) for seed in (1, 2, 3) for linear in (0, 1)],
}


def main():
    names = sys.argv[1:]
    known = [function.__name__ for function in EXPERIMENTS]
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no such experiment: {', '.join(unknown)}; there are: {', '.join(known)}")
    # The key is the first namespace's alone.
    if os.path.exists("/proc/sys/net/core/netdev_max_backlog"):
        sys.exit("this is the machine's own network namespace: run it under unshare -rn")
    for function, runs in EXPERIMENTS.items():
        if not names or function.__name__ in names:
            for args in runs:
                in_child(function, *args)


main()
