"""A stand-in for a language model: Ollama's and OpenAI's protocols, with all that goes wrong with them.

`python endpoint.py LOG` serves at a free port, which it prints, and writes each question that it answered to LOG.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint:
    """Answers `N. <last message>`, with as many tokens as there are words, unless it is told to misbehave."""

    def __init__(self, log: str | None = None) -> None:
        #: What the next requests meet: a status, "hang", "broken", "close", or ("limit", retry-after).
        self.next: deque[Any] = deque()
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.released = threading.Event()
        self.asked = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append(body)
                endpoint.keys.append(self.headers["Idempotency-Key"])
                endpoint.headers.append(dict(self.headers))
                endpoint.asked.set()
                try:
                    endpoint._handle(self, body)
                except (BrokenPipeError, ConnectionResetError):
                    return

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        self._log = log
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        what = self.next.popleft() if self.next else 200
        if what == "hang":
            self.released.wait(60)
        elif what == "close":
            handler.close_connection = True
            return
        elif what == "broken":
            return self._send(handler, 200, b'{"message": {"content": ')
        elif isinstance(what, tuple):
            handler.send_response(429)
            handler.send_header("Retry-After", str(what[1]))
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        elif what != 200:
            return self._send(handler, what, b'{"error": "planted"}')
        said = body["messages"][-1]["content"]
        content = f"{len(body['messages'])}. {said}"
        if self._log is not None:
            descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(descriptor, f"{said}\n".encode())
            os.close(descriptor)
        read = sum(len(message["content"].split()) for message in body["messages"])
        written = len(content.split())
        if handler.path == "/api/chat":
            answer: dict[str, Any] = {
                "model": body["model"],
                "message": {"role": "assistant", "content": content},
                "done": True,
                "prompt_eval_count": read,
                "eval_count": written,
            }
        else:
            answer = {
                "object": "chat.completion",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}],
                "usage": {"prompt_tokens": read, "completion_tokens": written},
            }
        self._send(handler, 200, json.dumps(answer).encode())

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


if __name__ == "__main__":
    print(Endpoint(sys.argv[1]).url, flush=True)
    threading.Event().wait()
