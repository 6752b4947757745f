#!/usr/bin/env python3
"""A persistent worker for `safepoint run --worker`, with the standard library only.

Each item is the path of a file. The result is its size in bytes, its lines, its words and its SHA-256.

    safepoint run --worker files.txt -- python3 examples/workers/worker.py
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any, BinaryIO

CHUNK_BYTES = 1 << 20
PROGRESS_EVERY_BYTES = 256 << 20
WHITESPACE = b" \t\n\r\v\f"


class ItemError(Exception):
    """An attempt that failed, and whether another attempt can help."""

    def __init__(self, message: str, *, retry: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry = retry
        self.retry_after = retry_after


class Answers:
    """The only writer of protocol lines; every answer is one line and one write."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def send(self, answer: dict[str, Any]) -> None:
        self._stream.write(json.dumps(answer).encode() + b"\n")
        self._stream.flush()


def take_over_stdout() -> Answers:
    """Keep standard output for answers; whatever else is printed goes to standard error.

    The descriptor itself is changed, so that the prints of C libraries and of child processes obey as well.
    """
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return Answers(answers)


def count(path: str, request_id: int, answers: Answers) -> dict[str, Any]:
    """Read the file once, in pieces, so that memory stays flat for a file of any size."""
    digest = hashlib.sha256()
    size = lines = words = 0
    in_word = False
    next_progress = PROGRESS_EVERY_BYTES
    with open(path, "rb") as file:
        total = os.fstat(file.fileno()).st_size
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
            words += len(chunk.split())
            if in_word and chunk[0] not in WHITESPACE:
                words -= 1  # This word began in the chunk before and is counted there.
            in_word = chunk[-1] not in WHITESPACE
            if size >= next_progress and total > 0:
                answers.send({"id": request_id, "progress": min(1.0, size / total)})
                next_progress = size + PROGRESS_EVERY_BYTES
    return {"path": path, "bytes": size, "lines": lines, "words": words, "sha256": digest.hexdigest()}


def work(request: dict[str, Any], answers: Answers) -> dict[str, Any]:
    """Do one item, and say of every error whether another attempt can help."""
    item = request["item"]
    if not isinstance(item, str):
        raise ItemError("the item is not a string with a path", retry=False)
    try:
        return count(item, request["id"], answers)
    except BrokenPipeError:
        raise
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError) as error:
        raise ItemError(f"`{item}`: {error}", retry=False) from error
    except OSError as error:
        # Too many open files, a network file system that is away: wait a moment, then again.
        raise ItemError(f"`{item}`: {error}", retry=True, retry_after=2.5) from error


def answer(request: dict[str, Any], answers: Answers) -> dict[str, Any]:
    """Turn one request into its final answer."""
    try:
        return {"id": request["id"], "result": work(request, answers)}
    except ItemError as error:
        failed: dict[str, Any] = {"id": request["id"], "error": str(error), "retry": error.retry}
        if error.retry_after is not None:
            failed["retry_after"] = error.retry_after
        return failed
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - a bug in our code costs one attempt, not the worker.
        print(f"item {request['key']}: {error!r}", file=sys.stderr)
        return {"id": request["id"], "error": repr(error), "retry": True}


def main() -> int:
    answers = take_over_stdout()
    try:
        # The end of input means: stop. The loop has then answered the item it was given last.
        for line in sys.stdin.buffer:
            answers.send(answer(json.loads(line), answers))
    except BrokenPipeError:
        os._exit(1)  # The runner is gone, so nobody reads the answer; there is nothing to flush either.
    return 0


if __name__ == "__main__":
    sys.exit(main())
