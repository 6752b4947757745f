"""Progress for people, on standard error: one line that is rewritten in a terminal, a line every 30 s elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TextIO

#: Between two looks, in seconds.
_TERMINAL = 0.1
_ELSEWHERE = 30.0


class Numbers(NamedTuple):
    """How far it is: over all runs, but ``new`` and ``failures``, which are of this one."""

    done: int
    dead: int
    total: int | None
    new: int
    failures: int


class Progress:
    """Shows how far something is until :meth:`end`. ``shown=False`` shows nothing; ``None`` decides by itself."""

    def __init__(
        self, name: str, look: Callable[[], Numbers], shown: bool | None, is_stop_new: Callable[[], bool] | None = None
    ) -> None:
        self._name = name
        self._look = look
        self._is_stop_new = is_stop_new
        self._stream: TextIO | None = sys.stderr if shown is not False else None
        self._is_terminal = False
        if self._stream is not None:
            try:
                self._is_terminal = self._stream.isatty()
            except (AttributeError, ValueError):
                self._stream = None
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._is_drawn = False
        self._thread: threading.Thread | None = None
        if self._stream is not None:
            self._thread = threading.Thread(target=self._work, name="safepoint-progress", daemon=True)
            self._thread.start()

    def note(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            self._clear()
            self._write(f"safepoint: {self._name}: {text}\n")

    def end(self) -> None:
        """The last state, as a line that stays in a terminal."""
        self._ended.set()
        if self._thread is None or not self._thread.is_alive():
            return
        self._thread.join(timeout=1.0)
        if self._is_terminal:
            with self._lock:
                self._draw()
                self._write("\n")
                self._is_drawn = False

    def _work(self) -> None:
        while not self._ended.wait(_TERMINAL if self._is_terminal else _ELSEWHERE):
            if self._is_terminal and self._is_stop_new is not None and self._is_stop_new():
                self.note("what is in progress may finish; Ctrl-C once more ends it now")
            with self._lock:
                if self._is_terminal:
                    self._draw()
                else:
                    self._write(f"safepoint: {self._name}: {self._line(None)}\n")

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns
        self._write("\r" + self._line(width) + "\x1b[K")
        self._is_drawn = True

    def _clear(self) -> None:
        if self._is_drawn:
            self._write("\r\x1b[K")
            self._is_drawn = False

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody looks any more. The work goes on.
            self._stream = None

    def _line(self, width: int | None) -> str:
        done, dead, total, new, failures = self._look()
        elapsed = time.monotonic() - self._began
        rate = new / elapsed if elapsed > 0 else 0.0
        settled = done + dead
        parts = [_rate(rate)]
        if failures:
            parts.append(self._red(f"{failures:,} failed"))
        if dead:
            parts.append(self._red(f"{dead:,} dead"))
        if total:
            share = min(1.0, settled / total)
            left = (total - settled) / rate if rate > 0 else None
            times = f"{_clock(elapsed)}<{_clock(left)}"
            tail = f"{settled:,}/{total:,} [{times}, {', '.join(parts)}]"
            head = f"{self._name} {share:4.0%}"
            room = (width or 0) - len(head) - len(tail) - 6
            bar = f" {self._bar(share, min(room, 30))}" if width is not None and room >= 5 else ""
            return f"{head}{bar} {tail}"
        return f"{self._name} {settled:,} [{_clock(elapsed)}, {', '.join(parts)}]"

    def _bar(self, share: float, width: int) -> str:
        encoding = (getattr(self._stream, "encoding", None) or "").lower()
        if not encoding.startswith("utf"):
            return "[" + "#" * int(share * width) + "." * (width - int(share * width)) + "]"
        eighths = int(share * width * 8)
        full, rest = divmod(eighths, 8)
        bar = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
        return f"|{bar.ljust(width)}|"

    def _red(self, text: str) -> str:
        if not self._is_terminal or os.environ.get("NO_COLOR"):
            return text
        return f"\x1b[31m{text}\x1b[0m"


def _clock(seconds: float | None) -> str:
    if seconds is None or seconds > 99 * 3600:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _rate(rate: float) -> str:
    if 0 < rate < 1:
        return f"{1 / rate:.1f} s each"
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.1f}/s"
