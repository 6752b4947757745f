#!/usr/bin/env python3
"""Count the words of one file and print one JSON line about it.

    python3 examples/words/count.py README.md

The line holds the path, the size in bytes, the lines, the words, the SHA-256 and the commonest word. A file that ends
in `.gz` is counted unpacked; its size and SHA-256 are those of the file as it is. Exit code 1: the file cannot be read.
"""

from __future__ import annotations

import collections
import gzip
import hashlib
import json
import re
import sys
import zlib

WORD = re.compile(rb"[A-Za-z]{2,}")
FILE_BYTES_MAX = 256 << 20


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"larger than {FILE_BYTES_MAX} bytes")
    return content


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: count.py FILE", file=sys.stderr)
        return 2
    path = arguments[0]
    try:
        content = read(path)
        text = gzip.decompress(content) if path.endswith(".gz") else content
    except (OSError, ValueError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        print(f"count.py: cannot read `{path}`: {reason}", file=sys.stderr)
        return 1
    words = collections.Counter(WORD.findall(text.lower()))
    # Of equally common words the first in the alphabet, so that the same file gives the same line every time.
    commonest = min(words, key=lambda word: (-words[word], word), default=b"")
    answer = {
        "path": path,
        "bytes": len(content),
        "lines": text.count(b"\n"),
        "words": sum(words.values()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "commonest": commonest.decode("ascii"),
    }
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
