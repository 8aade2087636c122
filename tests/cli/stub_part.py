"""A process for the supervisor's tests: ready on a port, stops when asked (unless `deaf`), says what happens."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/crash":
            print("what a pity", flush=True)
            os._exit(3)
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *args):
        pass


def leave(*_):
    print("leaving", flush=True)
    os._exit(0)


def main(port: int, manner: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN if manner == "deaf" else leave)
    server = HTTPServer(("127.0.0.1", port), Ready)
    print(f"pid {os.getpid()}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
