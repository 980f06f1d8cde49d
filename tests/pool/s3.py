"""An S3-speaking server in a process of its own, and a door in front of it that fails as real storage does."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}

Answer = tuple[int, str] | str | None  # (status, S3's code), "reset", or None: pass on


@contextlib.contextmanager
def running_server() -> Iterator[int]:
    """The port of a server that starts empty."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


def put(port: int, bucket: str, objects: dict[str, bytes]) -> None:
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id="test", aws_secret_access_key="test",
        region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket=bucket)
    for key, data in objects.items():
        client.put_object(Bucket=bucket, Key=key, Body=data)


@dataclass
class Door:
    """What passed the door.

    Attributes:
        url: its address.
        decide: (number of the request, its path) → how it is answered.
        paths: of all requests, in order.
        n_bytes: that were sent on as answers.
    """

    url: str
    decide: Callable[[int, str], Answer]
    paths: list[str] = field(default_factory=list)
    n_bytes: int = 0
    lock: Any = field(default_factory=threading.Lock)


@contextlib.contextmanager
def door_to(port: int, decide: Callable[[int, str], Answer] = lambda number, path: None) -> Iterator[Door]:
    """A proxy on a port of its own, in threads of this process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with door.lock:
                door.paths.append(self.path)
                answer = door.decide(len(door.paths), self.path)
            if answer == "reset":
                # Closed with a reset, as a server that dies does.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            elif isinstance(answer, tuple):
                status, code = answer
                self._send(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode(), {})
            else:
                self._pass_on()

        do_HEAD = do_GET

        def _pass_on(self) -> None:
            far = http.client.HTTPConnection("127.0.0.1", port)
            far.request(self.command, self.path, headers=dict(self.headers))
            response = far.getresponse()
            data = response.read()
            with door.lock:
                door.n_bytes += len(data)
            skipped = ("transfer-encoding", "connection", "date", "server")
            headers = {name: value for name, value in response.getheaders() if name.lower() not in skipped}
            self._send(response.status, data, headers)
            far.close()

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *rest: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    door = Door(f"http://127.0.0.1:{server.server_address[1]}", decide)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield door
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def every_third(number: int, path: str) -> Answer:
    """A storage that is busy, or breaks off, at every third request."""
    if number % 3:
        return None
    return "reset" if number % 2 else (503, "SlowDown")
