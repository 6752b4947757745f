"""Talking to a language model over plain HTTP: one question, one answer, what it cost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ._errors import InvalidError, IoError, Stopped

if TYPE_CHECKING:
    from decimal import Decimal
    from http.client import HTTPConnection

    from ._shutdown import ShutdownToken

#: More than any answer has; what is longer is no answer.
MAX_ANSWER = 16 << 20

_PHASES_TO_GIVE_UP = ("terminating", "stopped")


@dataclass(frozen=True)
class Message:
    """One message of a conversation; ``role`` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Reply:
    """What a model said, and how many tokens it read and wrote for that."""

    content: str
    input_tokens: int
    output_tokens: int


class Refused(Exception):
    """The endpoint did not answer this time."""

    def __init__(self, why: str, *, retries: bool, is_asked: bool, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        #: Whether asking again may help.
        self.retries = retries
        #: Whether the question may have been worked on, and be paid for, all the same.
        self.is_asked = is_asked
        #: For a rate limit: when to ask again, in seconds.
        self.retry_after = retry_after


class RateLimited(Refused):
    """The endpoint wants no more for a while."""


class Prices:
    """What tokens cost, in units of money for a million of them. Exact: ``"0.15"`` is 150,000 millionths.

    The cost of an answer is counted in millionths, rounded up once, so that no budget is ever counted too low.
    """

    def __init__(self, input: Decimal | float | str = 0, output: Decimal | float | str = 0) -> None:
        self._input = _millionths(input, "a price of input tokens")
        self._output = _millionths(output, "a price of output tokens")

    def cost(self, answer: Reply) -> int:
        """Of an answer, in millionths."""
        exact = answer.input_tokens * self._input + answer.output_tokens * self._output
        return -(-exact // 1_000_000)

    def __repr__(self) -> str:
        return f"Prices(input={as_decimal(self._input)}, output={as_decimal(self._output)})"


def _millionths(amount: Decimal | float | str, what: str) -> int:
    from decimal import Decimal, InvalidOperation

    try:
        # By its shortest text, so that 0.1 is 0.1.
        exact = Decimal(str(amount)).scaleb(6)
        if exact == exact.to_integral_value() and exact >= 0:
            return int(exact)
    except (InvalidOperation, OverflowError, ValueError):
        pass
    raise InvalidError(f"`{amount}` cannot be {what}", hint="an amount from 0 on, with six decimals at most")


def as_decimal(millionths: int) -> Decimal:
    """An amount of so many millionths."""
    from decimal import Decimal

    return Decimal(millionths) / 1_000_000


class Chat:
    """A model at an endpoint: :meth:`ollama` or :meth:`openai`. Threads may share it."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        request: Callable[[Sequence[Message]], dict[str, Any]],
        parse: Callable[[Any], Reply],
        timeout: float,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidError(f"`{url}` is no address of an endpoint", hint="such as http://127.0.0.1:11434")
        #: The whole address that is asked.
        self.url = url
        self._host, self._port, self._tls = parts.hostname, parts.port, parts.scheme == "https"
        self._path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._headers = dict(headers)
        self._request = request
        self._parse = parse
        self._timeout = timeout

    @classmethod
    def ollama(
        cls,
        model: str,
        url: str = "http://127.0.0.1:11434",
        *,
        options: Mapping[str, Any] | None = None,
        timeout: float = 600.0,
    ) -> Chat:
        """Ollama's ``/api/chat``. ``options`` are the model's, such as ``{"temperature": 0}``.

        ``timeout`` is for a whole answer, in seconds: a model on a processor takes minutes. Source: docs/api.md in
        Ollama's repository.
        """

        def request(messages: Sequence[Message]) -> dict[str, Any]:
            body: dict[str, Any] = {"model": model, "messages": _as_json(messages), "stream": False}
            if options:
                body["options"] = dict(options)
            return body

        def parse(answer: Any) -> Reply:
            content = answer["message"]["content"]
            return _answer(content, answer.get("prompt_eval_count", 0), answer.get("eval_count", 0))

        return cls(url.rstrip("/") + "/api/chat", {}, request, parse, timeout)

    @classmethod
    def openai(
        cls,
        model: str,
        url: str = "https://api.openai.com/v1",
        *,
        api_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        timeout: float = 600.0,
    ) -> Chat:
        """The ``/chat/completions`` of OpenAI, and of what speaks as it does. ``options`` go into the request.

        Source: the API reference of OpenAI, "Create chat completion".
        """
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}

        def request(messages: Sequence[Message]) -> dict[str, Any]:
            return {**dict(options or {}), "model": model, "messages": _as_json(messages), "stream": False}

        def parse(answer: Any) -> Reply:
            usage = answer.get("usage") or {}
            content = answer["choices"][0]["message"]["content"]
            return _answer(content, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))

        return cls(url.rstrip("/") + "/chat/completions", headers, request, parse, timeout)

    def ask(self, messages: Sequence[Message], key: str, stop: ShutdownToken | None = None) -> Reply:
        """Asks once. ``key`` goes along as ``Idempotency-Key``, for endpoints that know it.

        A graceful stop lets the answer come; an immediate one gives it up.

        Raises :class:`Refused`; :class:`safepoint.Stopped` when it was given up.
        """
        body = json.dumps(self._request(messages)).encode()
        call = _Call(self._connection(), self._path, body, {**self._headers, "Idempotency-Key": key})
        status, headers, text = call.wait(self._timeout, stop)
        if status == 429 or (status == 503 and "retry-after" in headers):
            after = _retry_after(headers.get("retry-after"))
            raise RateLimited(f"{self.url} wants no more ({status})", retries=True, is_asked=False, retry_after=after)
        if status != 200:
            said = text[:200].decode(errors="replace")
            retries = status >= 500 or status == 408
            # A server that fails may have done the work before.
            raise Refused(f"{self.url} answered {status}: {said}", retries=retries, is_asked=status >= 500)
        try:
            return self._parse(json.loads(text))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            why = f"{self.url} answered what is no answer of this protocol: {text[:200].decode(errors='replace')!r}"
            raise Refused(why, retries=True, is_asked=True) from error

    def _connection(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        if self._tls:
            return HTTPSConnection(self._host, self._port, timeout=self._timeout)
        return HTTPConnection(self._host, self._port, timeout=self._timeout)


class _Call:
    """A request on a thread of its own, so that whoever waits for it can give it up."""

    def __init__(self, connection: HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> None:
        self._connection = connection
        self._ended = threading.Event()
        self._response: tuple[int, dict[str, str], bytes] | None = None
        self._error: Exception | None = None
        self._is_sent = False
        self._lock = threading.Lock()
        self._is_given_up = False
        headers = {**headers, "Content-Type": "application/json", "Accept": "application/json"}
        threading.Thread(target=self._run, args=(path, body, headers), name="safepoint-chat", daemon=True).start()

    def _run(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        from http.client import HTTPException

        try:
            self._connection.connect()
            with self._lock:
                if self._is_given_up:
                    return
                self._is_sent = True
            self._connection.request("POST", path, body, headers)
            response = self._connection.getresponse()
            text = response.read(MAX_ANSWER + 1)
            if len(text) > MAX_ANSWER:
                raise HTTPException(f"the answer has more than {MAX_ANSWER} bytes")
            self._response = (response.status, {name.lower(): value for name, value in response.getheaders()}, text)
        except (OSError, HTTPException) as error:
            self._error = error
        finally:
            self._connection.close()
            self._ended.set()

    def wait(self, timeout: float, stop: ShutdownToken | None) -> tuple[int, dict[str, str], bytes]:
        from time import monotonic

        end = monotonic() + timeout
        while not self._ended.wait(min(0.05, max(0.0, end - monotonic()))):
            if stop is not None and stop.phase in _PHASES_TO_GIVE_UP:
                self._give_up()
                raise Stopped("the answer was given up: an immediate stop was asked for")
            if monotonic() >= end:
                self._give_up()
                raise Refused(f"no answer within {timeout:g} s", retries=True, is_asked=self._is_sent)
        if self._response is not None:
            return self._response
        error = self._error or OSError("the connection was closed")
        why = f"{self._connection.host}:{self._connection.port}: {error}"
        raise Refused(why, retries=True, is_asked=self._is_sent) from error

    def _give_up(self) -> None:
        import socket

        with self._lock:
            self._is_given_up = True
        # Wakes the thread that reads from it.
        sock = self._connection.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


def _as_json(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _answer(content: Any, input_tokens: Any, output_tokens: Any) -> Reply:
    if not isinstance(content, str):
        raise TypeError("the answer is no text")
    tokens = (input_tokens, output_tokens)
    if not all(isinstance(count, int) and count >= 0 for count in tokens):
        raise TypeError("the numbers of tokens are none")
    return Reply(content, *tokens)


def _retry_after(text: str | None) -> float | None:
    """Seconds from now. Source: RFC 9110, section 10.2.3: a number of seconds, or a date."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    from datetime import datetime, timezone
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return None


def as_error(refused: Refused) -> IoError | InvalidError:
    """What is raised when asking again does not help, or did not."""
    if refused.retries:
        return IoError(refused.why, hint="run the program again when the endpoint answers: it goes on where it was")
    return InvalidError(refused.why, hint="look at the model's name, the key and the address")
