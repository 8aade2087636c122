"""An API that answers what a test has told it."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer

GONE = 0  # instead of a status: the connection ends without an answer


class Api(HTTPServer):
    """Answers what it was told to, and keeps what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Asked)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked = []
        self.answers = {}


class Asked(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, json.loads(body or "null"), self.headers["Authorization"]))
        status, answer = self.server.answers[self.command, self.path.partition("?")[0]]
        if callable(answer):
            status, answer = answer()
        if status == GONE:
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    do_POST = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *args):
        pass
