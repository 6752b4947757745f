"""The agent against a stand-in for a model that speaks both protocols, and misbehaves in every way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

import safepoint
from endpoint import Endpoint
from safepoint import _chat
from safepoint.agent import Agent, Chat, Cycle, Prices, Reply


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    served = Endpoint()
    yield served
    served.close()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safepoint.agent._FIRST_WAIT", 0.01)


def until(cycles: int) -> Callable[[Agent], str | None]:
    return lambda agent: f"message {agent.cycles + 1}" if agent.cycles < cycles else None


def test_both_protocols(tmp_path: Path, endpoint: Endpoint) -> None:
    chats = {
        "ollama": Chat.ollama("m", endpoint.url, options={"temperature": 0}),
        "openai": Chat.openai("m", endpoint.url + "/v1", api_key="secret", options={"max_tokens": 5}),
    }
    for name, chat in chats.items():
        with safepoint.shutdown(signals=False):
            agent = Agent(tmp_path / name, chat, system="Count.")
            report = agent.run(until(2))
        assert report.status == "completed"
        assert [(cycle.message, cycle.answer) for cycle in agent.history] == [
            ("message 1", "2. message 1"),
            ("message 2", "4. message 2"),
        ]
        assert (report.input_tokens, report.output_tokens) == (3 + 8, 6)
    ollama, openai = endpoint.requests[1], endpoint.requests[3]
    assert ollama["stream"] is False and ollama["options"] == {"temperature": 0}
    assert openai["max_tokens"] == 5 and openai["model"] == "m"
    assert endpoint.headers[2]["Authorization"] == "Bearer secret"
    assert [message["role"] for message in openai["messages"]] == ["system", "user", "assistant", "user"]


def test_what_is_recorded_is_never_asked_again(tmp_path: Path, endpoint: Endpoint) -> None:
    chat = Chat.ollama("m", endpoint.url)
    for run, cycles in enumerate((2, 3, 3), start=1):
        with safepoint.shutdown(signals=False):
            agent = Agent(tmp_path / "agent", chat, prices=Prices(input="0.1"))
            report = agent.run(until(cycles))
        assert (report.run, report.cycles, report.cycles_of_run) == (run, cycles, (2, 1, 0)[run - 1])
    assert len(endpoint.requests) == 3
    assert len(set(endpoint.keys)) == 3
    assert report.spent > 0 and report.cycles == 3


def test_a_cycle_that_was_cut_off_after_its_answer_goes_on_with_it(tmp_path: Path, endpoint: Endpoint) -> None:
    seen: list[Cycle] = []
    fails = True

    def run() -> None:
        with safepoint.shutdown(signals=False):
            agent = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url), prices=Prices(input=1))

            @agent.hook("after_answer")
            def act(cycle: Cycle) -> None:
                seen.append(cycle)
                if fails:
                    raise RuntimeError("the program died here")

            agent.run(until(1))
            assert agent.report.spent == seen[0].cost

    with pytest.raises(RuntimeError):
        run()
    fails = False
    run()
    assert len(endpoint.requests) == 1
    assert [cycle.is_resumed for cycle in seen] == [False, True]
    assert seen[0].answer == seen[1].answer


def test_failures_of_the_endpoint_are_tried_again(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.next.extend([500, "broken", "close", 502])
    with safepoint.shutdown(signals=False):
        report = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url)).run(until(1))
    assert (report.status, report.repeated, report.cycles) == ("completed", 4, 1)
    # Those that may have been worked on, all with the same key.
    assert report.unanswered == 4
    assert len(set(endpoint.keys)) == 1


def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.next.append("hang")
    with safepoint.shutdown(signals=False):
        report = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url, timeout=1.0)).run(until(1))
    assert (report.repeated, report.unanswered, report.cycles) == (1, 1, 1)


def test_it_gives_up_after_so_many_attempts_and_goes_on_later(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.next.extend([503] * 3)
    chat = Chat.ollama("m", endpoint.url)
    with pytest.raises(safepoint.IoError, match="answered 503"), safepoint.shutdown(signals=False):
        agent = Agent(tmp_path / "agent", chat, attempts=3)
        agent.run(until(1))
    assert agent.status == "failed"
    with safepoint.shutdown(signals=False):
        assert Agent(tmp_path / "agent", chat).run(until(1)).status == "completed"


def test_a_refusal_is_not_tried_again(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.next.append(401)
    with pytest.raises(safepoint.InvalidError, match="answered 401: .*planted"), safepoint.shutdown(signals=False):
        Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url)).run(until(1))
    assert len(endpoint.requests) == 1


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(safepoint.IoError, match="127.0.0.1:1"), safepoint.shutdown(signals=False):
        agent = Agent(tmp_path / "agent", Chat.ollama("m", "http://127.0.0.1:1"), attempts=2)
        agent.run(until(1))
    assert agent.report.unanswered == 0
    for address in ("localhost:11434", "ftp://x", "http://"):
        with pytest.raises(safepoint.InvalidError, match="no address"):
            Chat.ollama("m", address)


def test_a_rate_limit_pauses_and_is_no_attempt(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.next.extend([("limit", 0.05)] * 4)
    paused: list[tuple[float, str]] = []
    with safepoint.shutdown(signals=False):
        agent = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url), attempts=1)
        agent.hook("paused")(lambda seconds: paused.append((seconds, agent.status)))
        report = agent.run(until(1))
    assert paused == [(0.05, "paused_rate_limit")] * 4
    assert (report.pauses, report.repeated, report.status) == (4, 0, "completed")


def test_a_stop_ends_a_pause_at_once(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.next.append(("limit", 3600))
    with safepoint.shutdown(signals=False) as stop:
        agent = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url))
        agent.hook("paused")(lambda seconds: stop.request("enough"))
        report = agent.run(until(1))
    assert (report.status, report.cycles, report.graceful_interrupts) == ("interrupted", 0, 1)
    with safepoint.shutdown(signals=False):
        report = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url)).run(until(1))
    assert (report.status, report.cycles, report.total_interrupts) == ("completed", 1, 1)


def test_a_graceful_stop_lets_the_answer_come_and_no_other_cycle_begins(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.next.append("hang")
    ended: list[object] = []
    with safepoint.shutdown(signals=False) as stop:

        def interrupt() -> None:
            assert endpoint.asked.wait(30)
            stop.request("enough")
            endpoint.released.set()

        threading.Thread(target=interrupt).start()
        agent = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url))
        agent.hook("interrupted")(ended.append)
        report = agent.run(until(5))
    assert (report.status, report.cycles) == ("interrupted", 1)
    assert len(endpoint.requests) == 1
    assert [str(request) for request in ended] == [str(stop.reason)]


def test_graceful_escalates_to_immediate_which_gives_the_answer_up(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.next.append("hang")
    with safepoint.shutdown(signals=False) as stop:

        def interrupt() -> None:
            assert endpoint.asked.wait(30)
            stop.request("enough")
            stop.request("now", immediate=True)

        threading.Thread(target=interrupt).start()
        report = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url)).run(until(5))
    assert (report.status, report.cycles, report.unanswered) == ("interrupted", 0, 1)
    assert (report.graceful_interrupts, report.immediate_interrupts) == (1, 1)
    # Asked again with the same key, for it may have been answered.
    with safepoint.shutdown(signals=False):
        report = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url)).run(until(1))
    assert (report.status, report.cycles, report.total_interrupts) == ("completed", 1, 2)
    assert len(set(endpoint.keys)) == 1


def test_a_budget_is_exact_over_runs_and_no_cycle_begins_after_it(tmp_path: Path, endpoint: Endpoint) -> None:
    # Each message has two words, and is the only one that the model is shown.
    def run() -> Agent:
        with safepoint.shutdown(signals=False) as stop:
            chat, prices = Chat.openai("m", endpoint.url), Prices(input=50_000.0)
            agent = Agent(tmp_path / "agent", chat, prices=prices, budget=0.7, remember=0)
            agent.run(lambda agent: None if agent.report.cycles_of_run == 3 else "two words")
        assert stop.report is not None
        return agent

    first = run()
    assert (first.status, first.report.spent) == ("completed", Decimal("0.3"))
    second = run()
    assert (second.status, second.report.spent) == ("completed", Decimal("0.6"))
    third = run()
    assert (third.status, third.report.spent, third.cycles) == ("interrupted", Decimal("0.7"), 7)
    fourth = run()
    assert (fourth.status, fourth.report.cycles_of_run, len(endpoint.requests)) == ("interrupted", 0, 7)
    assert "budget: 0.7 of 0.7 spent" in str(fourth.report)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**12), st.integers(0, 10**12))
def test_costs_are_exact_and_rounded_up_once(read: int, written: int, price: int, other: int) -> None:
    prices = Prices(input=Decimal(price) / 1_000_000, output=Decimal(other) / 1_000_000)
    exact = read * price + written * other
    cost = prices.cost(Reply("", read, written))
    assert 0 <= cost * 1_000_000 - exact < 1_000_000


def test_prices_that_cannot_be(tmp_path: Path) -> None:
    for price in ("-1", "0.0000001", "nan", "x", float("inf")):
        with pytest.raises(safepoint.InvalidError, match="cannot be a price"):
            Prices(input=price)
    assert repr(Prices(input=0.1, output="100")) == "Prices(input=0.1, output=100)"


def test_killed_runs_are_counted(tmp_path: Path, endpoint: Endpoint) -> None:
    with safepoint.shutdown(signals=False):
        Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url))._steps.close()
    with safepoint.shutdown(signals=False):
        report = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url)).run(until(1))
    assert report.killed_runs == 1
    assert "1 runs were killed" in str(report)


def test_an_agent_outside_of_a_block_is_refused(tmp_path: Path, endpoint: Endpoint) -> None:
    with pytest.raises(safepoint.InvalidError, match="needs a token"):
        Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url))
    with safepoint.shutdown(signals=False):
        agent = Agent(tmp_path / "agent", Chat.ollama("m", endpoint.url))
        with pytest.raises(safepoint.InvalidError, match="no event"):
            agent.hook("later")
        agent.run(until(0))
        with pytest.raises(safepoint.ClosedError):
            agent.run(until(1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", 7.0), ("-3", 0.0), ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0), ("soon", None), (None, None)],
)
def test_retry_after(text: Any, expected: float | None) -> None:
    assert _chat._retry_after(text) == expected
