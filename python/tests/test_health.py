"""Health over HTTP, asked by a real client."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request

import pytest

import safepoint
from conftest import Start


def ask(server: safepoint.Health, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(server.address + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_readiness_follows_the_program_its_checks_and_the_stop() -> None:
    broken: list[str] = []

    def check() -> bool:
        if broken == ["raises"]:
            raise OSError("no database")
        return not broken

    with safepoint.shutdown() as stop:
        server = stop.health("127.0.0.1:0", checks={"database": check}, ready=False)
        assert ask(server, "/health")[0] == 200
        assert ask(server, "/ready") == (503, '{"status":"not_ready"}')
        server.ready = True
        assert server.ready
        assert ask(server, "/ready")[0] == 200
        stop.request()
        assert ask(server, "/health")[0] == 200
        code, said = ask(server, "/ready")
        assert (code, json.loads(said)["status"]) == (503, "shutting_down")
        address = server.address
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address + "/health", timeout=60)


@pytest.mark.parametrize("failure", ["says no", "raises"])
def test_a_check_that_fails_makes_it_not_ready(failure: str) -> None:
    def check() -> bool:
        if failure == "raises":
            raise OSError("no database")
        return False

    with safepoint.shutdown() as stop, stop.health("127.0.0.1:0", checks={"database": check}) as server:
        code, said = ask(server, "/ready")
        assert (code, json.loads(said)["status"]) == (503, "not_ready")


def test_a_stop_over_http() -> None:
    with safepoint.shutdown() as stop, stop.health("127.0.0.1:0") as server:
        assert ask(server, "/shutdown", "POST")[0] in (200, 202)
        assert stop.wait(60)
    assert stop.exit_code == 75


def test_an_address_that_cannot_be_had_is_an_error_with_a_hint() -> None:
    with safepoint.shutdown() as stop, stop.health("127.0.0.1:0") as server:
        with pytest.raises(safepoint.IoError) as refused:
            stop.health(server.address.removeprefix("http://"))
        assert refused.value.errno is not None
        with pytest.raises(safepoint.InvalidError):
            stop.health("not an address")


def test_it_answers_while_python_holds_the_interpreter(start: Start) -> None:
    program = start("""
    import safepoint
    with safepoint.shutdown() as stop:
        server = stop.health("127.0.0.1:0")
        print(server.address)
        print("ready")
        # One call of C, which never lets another thread of Python run.
        sum(range(10 ** 12))
    """)
    program.until("ready")
    with urllib.request.urlopen(program.lines[0] + "/health", timeout=60) as answer:
        assert answer.status == 200
    program.send(signal.SIGKILL)
    assert program.end()[0] == -signal.SIGKILL
