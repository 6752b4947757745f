"""Health over HTTP for a program of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import _native
from ._errors import in_words
from ._times import as_seconds

if TYPE_CHECKING:
    from datetime import timedelta

    from ._native import Ending
    from ._shutdown import ShutdownToken


class Health:
    """A server of health and readiness; see :meth:`ShutdownToken.health`. Use it in ``with``, or close it."""

    def __init__(
        self,
        token: ShutdownToken,
        address: str,
        checks: dict[str, Callable[[], object]],
        ready: bool,
        check_limit: float | timedelta | None,
        secret: str | None,
        hosts: list[str],
    ) -> None:
        limit = None if check_limit is None else as_seconds(check_limit)
        told = [(name, _teller(check)) for name, check in checks.items()]
        self._native = _native.HealthServer(token, str(address), told, ready, limit, secret, hosts)

    @property
    def address(self) -> str:
        """Its URL without a path, ``http://127.0.0.1:8080``, with the real port for port 0; or ``unix:`` and a path."""
        return self._native.address.rstrip("/")

    @property
    def ready(self) -> bool:
        """Whether the program says that it is ready. Set it when the start is done."""
        return self._native.ready

    @ready.setter
    def ready(self, ready: bool) -> None:
        self._native._set_ready(ready)

    def close(self) -> None:
        """Ends the server."""
        self._native.close()

    def __enter__(self) -> Health:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _teller(check: Callable[[], object]) -> Callable[[Ending], object]:
    """``check`` as the native half runs it, on a thread: ready unless it raises or returns ``False``."""

    def run(ending: Ending) -> None:
        failure: str | None = None
        try:
            if check() is False:
                failure = "it said no"
        except BaseException as error:
            failure = in_words(error)
        finally:
            ending.tell(failure)

    return run
