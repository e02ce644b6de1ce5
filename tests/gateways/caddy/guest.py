"""A guest's programs for the proxy's tests: HTTP on port 80, websockets on 81. Runs until it is killed."""

from __future__ import annotations

import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from websockets.sync.server import ServerConnection, serve


class Guest(BaseHTTPRequestHandler):
    """Says what it was asked; counts what is uploaded; streams a line at a time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _line in range(3):
                self.wfile.write(b"5\r\ntick\n\r\n")
                self.wfile.flush()
                time.sleep(0.5)
            self.wfile.write(b"0\r\n\r\n")
            return
        names = ("Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
        self._say("\n".join([sys.argv[1], self.path, *(f"{name}: {self.headers.get(name)}" for name in names)]))

    def do_POST(self) -> None:
        left = size = int(self.headers["Content-Length"])
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 16)))
        self._say(f"took {size}")

    def _say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_words: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    """Of both families."""

    address_family = socket.AF_INET6


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


if __name__ == "__main__":
    threading.Thread(target=Server(("::", 80), Guest).serve_forever, daemon=True).start()
    serve(echo, "", 81).serve_forever()
