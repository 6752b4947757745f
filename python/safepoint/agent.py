"""An autonomous agent: cycles of a message and an answer, durable, within a budget.

::

    import safepoint
    from safepoint.agent import Agent, Chat, Prices

    with safepoint.shutdown() as stop:
        agent = Agent("researcher", Chat.ollama("llama3.2"), budget="2.50", prices=Prices(input="0.15", output="0.60"))
        agent.run(lambda agent: "Go on." if agent.cycles < 10 else None)
    print(agent.report)

Each answer is recorded before anything is done with it, so whatever ends the program, no recorded answer is asked for,
or paid for, again. History, cost and interrupts are counted over all runs.

No dependency: plain HTTP, no streaming, no proxies.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ._chat import Chat, Message, Prices, RateLimited, Refused, Reply, as_decimal, as_error
from ._errors import ClosedError, InvalidError, Stopped
from ._steps import Steps

if TYPE_CHECKING:
    import os
    from decimal import Decimal

    from ._budget import Budget
    from ._effects import Intent
    from ._shutdown import ShutdownToken

__all__ = ["Agent", "AgentReport", "Reply", "Chat", "Cycle", "Message", "Prices"]

F = TypeVar("F", bound=Callable[..., Any])

#: The places where a program's own functions are called.
EVENTS = ("before_cycle", "after_answer", "after_cycle", "paused", "interrupted")

#: Between two attempts at one answer, in seconds: the first wait, and the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0


@dataclass(frozen=True)
class Cycle:
    """One message and the answer to it."""

    #: From 1.
    number: int
    message: str
    answer: str
    input_tokens: int
    output_tokens: int
    #: What the answer cost.
    cost: Decimal
    #: Whether the answer was recorded in an earlier run, which was cut off before the cycle was complete.
    is_resumed: bool = False


@dataclass
class AgentReport:
    """What an agent has done, in all its runs. ``str()`` is some lines for a person."""

    #: running, paused_rate_limit, interrupted, completed or failed.
    status: str = "running"
    run: int = 1
    #: Complete cycles, and those of this run.
    cycles: int = 0
    cycles_of_run: int = 0
    #: What the recorded answers cost, exactly, and the budget.
    spent: Decimal = field(default_factory=lambda: as_decimal(0))
    budget: Decimal | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    #: Attempts of this run that had to be repeated, and pauses for a rate limit.
    repeated: int = 0
    pauses: int = 0
    #: Questions of this run that may have been worked on though no answer came.
    unanswered: int = 0
    #: Stop requests of all runs.
    graceful_interrupts: int = 0
    immediate_interrupts: int = 0
    #: Earlier runs that ended without a word: killed.
    killed_runs: int = 0

    @property
    def total_interrupts(self) -> int:
        """Stop requests of all runs."""
        return self.graceful_interrupts + self.immediate_interrupts

    def __str__(self) -> str:
        of_budget = "" if self.budget is None else f" of {self.budget.normalize():f}"
        return (
            f"status: {self.status}\n"
            f"cycles: {self.cycles} complete, {self.cycles_of_run} of them in run {self.run}\n"
            f"budget: {self.spent.normalize():f}{of_budget} spent, "
            f"{self.input_tokens} tokens read and {self.output_tokens} written\n"
            f"interrupts: {self.total_interrupts} total, {self.graceful_interrupts} graceful, "
            f"{self.immediate_interrupts} immediate; {self.killed_runs} runs were killed"
        )


class Agent:
    """A conversation with a model that goes on in cycles, and over runs.

    state
        The agent's name, for the directory ``.safepoint/<name>``; or a path-like object, for that directory.
    chat
        The model: :meth:`Chat.ollama`, :meth:`Chat.openai`.
    system
        What the model is told first. It is not a part of the history and may change from run to run.
    prices, budget
        What tokens cost, and how much may be spent in all runs together: once it is spent, a stop is asked for (source
        BUDGET) and no other cycle begins. Counted exactly, in millionths.
    remember
        How many cycles the model is shown; all of them, unless told otherwise.
    attempts
        How often an answer is asked for before the agent gives up. Rate limits are waited out and not counted.
    stop
        The token; without it, that of the innermost ``with safepoint.shutdown()`` block.

    Raises :class:`safepoint.BusyError` while another process has the directory.
    """

    def __init__(
        self,
        state: str | os.PathLike[str],
        chat: Chat,
        *,
        system: str | None = None,
        prices: Prices | None = None,
        budget: Decimal | float | str | None = None,
        remember: int | None = None,
        attempts: int = 5,
        stop: ShutdownToken | None = None,
    ) -> None:
        if stop is None:
            from ._shutdown import active

            stop = active()
        if stop is None:
            raise InvalidError(
                "an agent needs a token, to be stopped by",
                hint="make it inside `with safepoint.shutdown() as stop:`",
            )
        if attempts < 1 or (remember is not None and remember < 0):
            raise InvalidError("an agent makes one attempt at least, and remembers 0 cycles or more")
        self._stop = stop
        self._chat = chat
        self._system = system
        self._prices = prices or Prices()
        self._remember = remember
        self._attempts = attempts
        self._hooks: dict[str, list[Callable[..., Any]]] = {event: [] for event in EVENTS}
        # Cycles are units of the token themselves; what is recorded at the end must not be refused then.
        self._steps = Steps(state, stop=False)
        #: What was done, in all runs; up to date at any time.
        self.report = AgentReport(run=self._steps.run)
        #: The complete cycles.
        self.history: list[Cycle] = []
        self._budget = self._begin_budget(budget)
        self._read_back()

    @property
    def cycles(self) -> int:
        """How many are complete, in all runs."""
        return len(self.history)

    @property
    def status(self) -> str:
        """running, paused_rate_limit, interrupted, completed or failed."""
        return self.report.status

    def hook(self, event: str) -> Callable[[F], F]:
        """Registers a function: ``@agent.hook("after_answer")``.

        ``before_cycle(message)``
            before an answer is asked for;
        ``after_answer(cycle)``
            when it is recorded: act on it here. If the program dies in between, it is called again with the same
            answer: the cycle is complete after it;
        ``after_cycle(cycle)``
            when the cycle is complete;
        ``paused(seconds)``
            when the endpoint wants no more for so long;
        ``interrupted(request)``
            when a stop ends the run.

        An exception of a function ends the run with it.
        """
        if event not in self._hooks:
            raise InvalidError(f"`{event}` is no event of an agent", hint=f"one of {', '.join(EVENTS)}")

        def register(function: F) -> F:
            self._hooks[event].append(function)
            return function

        return register

    def run(self, message: Callable[[Agent], str | None]) -> AgentReport:
        """Goes on, cycle by cycle: ``message(agent)`` gives what to say next, or ``None`` when all is said.

        It may look at ``agent.history``. What it gives is recorded with the answer.

        Returns the report also when a stop ended the run: then its status is interrupted.

        Raises :class:`safepoint.IoError` when the endpoint gives no answer in all attempts,
        :class:`safepoint.InvalidError` when it refuses the question.
        """
        if self.report.status != "running":
            raise ClosedError("this agent's run has ended", hint="make another `Agent` to go on")
        status = "failed"
        try:
            while (asked := self._next_message(message)) is not None:
                with self._stop.unit(f"cycle {self.cycles + 1}"):
                    self._cycle(asked)
            status = "completed"
        except Stopped:
            status = "interrupted"
        finally:
            self._end(status)
        return self.report

    def _next_message(self, message: Callable[[Agent], str | None]) -> str | None:
        # A cycle that was cut off after its answer goes on with what was asked then.
        recorded = self._steps.recorded(f"cycle-{self.cycles + 1}/message")
        return recorded["message"] if recorded is not None else message(self)

    def _cycle(self, message: str) -> None:
        number = self.cycles + 1
        with self._steps.stage(f"cycle-{number}") as scope:
            said = scope.step("message", lambda: {"message": message})["message"]
            is_new = False

            def ask(intent: Intent) -> dict[str, Any]:
                nonlocal is_new
                is_new = True
                self._call("before_cycle", said)
                answer = self._ask(said, intent)
                return {
                    "answer": answer.content,
                    "input_tokens": answer.input_tokens,
                    "output_tokens": answer.output_tokens,
                    "cost": self._prices.cost(answer),
                }

            # In doubt it is asked again with the same key: nobody else can say what the answer was.
            answered = scope.effect("answer", ask, in_doubt="run_again")
            cycle = _cycle(number, said, answered, is_resumed=not is_new)
            self._count(cycle, answered["cost"])
            self._call("after_answer", cycle)
            scope.step("complete", lambda: True)
        self.history.append(cycle)
        self.report.cycles += 1
        self.report.cycles_of_run += 1
        self._call("after_cycle", cycle)

    def _ask(self, message: str, intent: Intent) -> Reply:
        attempt, wait = 1, _FIRST_WAIT
        while True:
            try:
                return self._chat.ask(self._messages(message), intent.idempotency_key, self._stop)
            except Stopped as stopped:
                self.report.unanswered += 1
                raise stopped
            except RateLimited as limited:
                seconds = wait if limited.retry_after is None else limited.retry_after
                self._pause(seconds, intent)
            except Refused as refused:
                self.report.unanswered += refused.is_asked
                if not refused.retries or attempt >= self._attempts:
                    error = as_error(refused)
                    raise (error if refused.is_asked else intent.not_done(error)) from refused
                attempt += 1
                self.report.repeated += 1
                # Of many agents that were refused together, not all come back together.
                self._wait(wait * random.uniform(0.5, 1.0), intent)
            wait = min(wait * 2, _LONGEST_WAIT)

    def _pause(self, seconds: float, intent: Intent) -> None:
        self.report.pauses += 1
        self.report.status = "paused_rate_limit"
        self._call("paused", seconds)
        try:
            self._wait(seconds, intent)
        finally:
            self.report.status = "running"

    def _wait(self, seconds: float, intent: Intent) -> None:
        if self._stop.wait(seconds):
            raise intent.not_done(Stopped("a stop was asked for while waiting to ask again"))

    def _messages(self, message: str) -> Sequence[Message]:
        shown = self.history if self._remember is None else self.history[len(self.history) - self._remember :]
        messages = [] if self._system is None else [Message("system", self._system)]
        for cycle in shown:
            messages += [Message("user", cycle.message), Message("assistant", cycle.answer)]
        return [*messages, Message("user", message)]

    def _begin_budget(self, budget: Decimal | float | str | None) -> Budget | None:
        if budget is None:
            return None
        begun = self._stop.budget(budget)
        self.report.budget = begun.limit
        return begun

    def _read_back(self) -> None:
        """What earlier runs have recorded."""
        number = 1
        while True:
            scope = self._steps.scope(f"cycle-{number}")
            if scope.recorded("complete") is None:
                break
            answered = scope.effect("answer", _never, in_doubt="run_again")
            cycle = _cycle(number, scope.recorded("message")["message"], answered)
            self.history.append(cycle)
            self._count(cycle, answered["cost"])
            number += 1
        self.report.cycles = len(self.history)
        for run in range(1, self._steps.run):
            ended = self._steps.recorded(f"runs/{run}")
            if ended is None:
                self.report.killed_runs += 1
            else:
                self.report.graceful_interrupts += ended["graceful"]
                self.report.immediate_interrupts += ended["immediate"]

    def _count(self, cycle: Cycle, cost: int) -> None:
        self.report.input_tokens += cycle.input_tokens
        self.report.output_tokens += cycle.output_tokens
        self.report.spent = as_decimal(int(self.report.spent.scaleb(6)) + cost)
        if self._budget is not None:
            self._budget.spend(cycle.cost)

    def _call(self, event: str, *arguments: object) -> None:
        for function in self._hooks[event]:
            function(*arguments)

    def _end(self, status: str) -> None:
        self.report.status = status
        requests = self._stop.requests
        graceful = sum(request.mode == "GRACEFUL" for request in requests)
        immediate = len(requests) - graceful
        self.report.graceful_interrupts += graceful
        self.report.immediate_interrupts += immediate
        counts = {"status": status, "graceful": graceful, "immediate": immediate}
        self._steps.step(f"runs/{self._steps.run}", lambda: counts)
        self._steps.close()
        if status == "interrupted":
            self._call("interrupted", requests[0] if requests else None)


def _cycle(number: int, message: str, answered: dict[str, Any], is_resumed: bool = False) -> Cycle:
    return Cycle(
        number,
        message,
        answered["answer"],
        answered["input_tokens"],
        answered["output_tokens"],
        as_decimal(answered["cost"]),
        is_resumed,
    )


def _never(intent: Intent) -> dict[str, Any]:
    raise AssertionError("the answer of a complete cycle is recorded")
