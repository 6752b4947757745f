"""An agent that counts: in each cycle it asks a model for the next numbers, until it has got to the end.

    python examples/python/counting_agent.py [--url http://127.0.0.1:11434] [--model llama3.2] [--protocol ollama]

It needs an endpoint that speaks Ollama's protocol, or OpenAI's (`--protocol openai`). Stop it with Ctrl-C or `kill -9`
at any moment, and start it again: no answer that was recorded is asked for, or paid for, again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import safepoint
from safepoint.agent import Agent, Chat, Cycle, Prices

NUMBERS = 5


def main() -> int:
    parser = argparse.ArgumentParser(description="an agent of counting cycles")
    parser.add_argument("--state", type=Path, default=Path(".safepoint/counting-agent"))
    parser.add_argument("--url", default="http://127.0.0.1:11434")
    parser.add_argument("--model", default="llama3.2")
    parser.add_argument("--protocol", choices=["ollama", "openai"], default="ollama")
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--budget", default="1.00", help="what may be spent in all runs together")
    parser.add_argument("--price", default="2.50", help="of a million tokens")
    arguments = parser.parse_args()
    if arguments.protocol == "openai":
        chat = Chat.openai(arguments.model, arguments.url, api_key=os.environ.get("OPENAI_API_KEY"))
    else:
        chat = Chat.ollama(arguments.model, arguments.url)
    prices = Prices(input=arguments.price, output=arguments.price)

    with safepoint.shutdown() as stop:
        agent = Agent(
            arguments.state,
            chat,
            system=f"You count. Answer with {NUMBERS} numbers and nothing else.",
            prices=prices,
            budget=arguments.budget,
            remember=3,
        )

        @agent.hook("after_cycle")
        def tell(cycle: Cycle) -> None:
            say(f"cycle {cycle.number} complete: {cycle.answer} ({cycle.cost})")

        @agent.hook("paused")
        def tell_pause(seconds: float) -> None:
            say(f"{agent.status}: the endpoint wants no more for {seconds:g} s")

        if agent.cycles == 0:
            say(f"new: {arguments.cycles} cycles of {NUMBERS} numbers")
        else:
            say(f"resumed: {agent.cycles} of {arguments.cycles} cycles complete, {agent.report.spent} spent")
        say("Ctrl-C: the cycle in progress is finished; once more gives its answer up. Then start it again to go on.")
        failure = None
        try:
            agent.run(lambda agent: question(agent.cycles) if agent.cycles < arguments.cycles else None)
        except safepoint.Error as error:
            failure = error

    say(str(agent.report))
    say("Cleanup complete")
    if failure is not None:
        raise failure
    return stop.exit_code


def question(cycle: int) -> str:
    return f"Cycle {cycle + 1}: which numbers follow {cycle * NUMBERS}?"


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except safepoint.Error as error:
        sys.exit(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))
