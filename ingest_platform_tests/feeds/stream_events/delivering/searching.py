"""A stand-in for Elasticsearch that can be killed: a process of its own that keeps what it took in a file.

    python searching.py <port> <file> [<events after which it kills itself, in the middle of a request>]

Each line of the file is an event as it was taken: its id, and the digest of what was sent.
"""

import gzip
import hashlib
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def main() -> None:
    """Serve until killed."""
    port, path, *rest = sys.argv[1:]
    left = int(rest[0]) if rest else None

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal left
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            lines = body.splitlines()
            items: list[object] = []
            with Path(path).open("a", buffering=1, encoding="utf-8") as kept:
                for action, source in zip(lines[::2], lines[1::2], strict=True):
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left = None if left is None else left - 1
                    kept.write(f"{json.loads(action)['index']['_id']} {hashlib.sha256(source).hexdigest()}\n")
                    items.append({"index": {"status": 201}})
            answer = json.dumps({"errors": False, "items": items}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
