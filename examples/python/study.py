"""A study in stages: each measures the candidates that are left longer, and the better half survives.

    python examples/python/study.py [--state DIRECTORY] [--candidates 32] [--work 20000]

Stop it with Ctrl-C or `kill -9` at any moment, and start it again: what was measured is not measured again, and the
same candidates survive.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import safepoint


def measure(candidate: int, stage: int, work: int) -> float:
    """How good a candidate is: its true value, and noise that grows less with the stage."""
    noise = candidate * 2_654_435_761 + stage
    for _ in range(work << stage):
        noise = (noise * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % (1 << 64)
    return (candidate * 37 % 101) / 101 + (noise / (1 << 64) - 0.5) / (stage + 1)


def study(steps: safepoint.Steps, candidates: list[int], work: int) -> int:
    """The best candidate."""
    number = 0
    with ThreadPoolExecutor(2) as threads:
        while len(candidates) > 1:
            with steps.stage(f"stage-{number}") as stage:
                asked = [
                    threads.submit(stage.step, f"candidate-{candidate}", measure, candidate, number, work)
                    for candidate in candidates
                ]
                scores: list[float] = [each.result() for each in asked]
            # Who survives follows from what is recorded, so it is the same in every run.
            ranked = sorted(zip(scores, candidates, strict=True), reverse=True)
            survivors = sorted(candidate for _, candidate in ranked[: (len(candidates) + 1) // 2])
            say(f"stage {number}: {len(candidates)} candidates, {len(survivors)} survive")
            candidates, number = survivors, number + 1
    return candidates[0]


def say(line: str) -> None:
    # In one piece: several threads talk.
    print(f"{line}\n", end="", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="a staged study with survivors")
    parser.add_argument("--state", type=Path, default=Path(".safepoint/study"))
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--work", type=int, default=20_000, help="how much a measurement computes")
    parser.add_argument("--quiet", action="store_true", help="stages only, not each measurement")
    arguments = parser.parse_args()

    def tell(notice: safepoint.StepsNotice) -> None:
        if not arguments.quiet or notice.event in ("resumed", "interrupted"):
            say(str(notice))

    best = None
    with safepoint.shutdown() as stop, safepoint.Steps(arguments.state, on_notice=tell) as steps:
        say("new study" if steps.run == 1 else f"resumed: run {steps.run} of this study")
        say("Ctrl-C: the measurements in progress are finished. Then start it again to go on.")
        best = study(steps, list(range(arguments.candidates)), arguments.work)

    steps_report, stop_report = steps.report, stop.report
    if steps_report is not None and stop_report is not None:
        say(f"status: {'interrupted' if best is None else 'completed'}; {steps_report}")
        say(
            f"interrupts: {stop_report.total_interrupts} total, {stop_report.graceful_interrupts} graceful, "
            f"{stop_report.immediate_interrupts} immediate"
        )
    if best is not None:
        say(f"result: candidate {best}")
    say("Cleanup complete")
    return stop.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except safepoint.Error as error:
        sys.exit(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))
