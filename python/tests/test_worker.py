"""`safepoint.worker`: the protocol of `safepoint run --worker`, spoken by real processes."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import pytest

import safepoint

Path = pathlib.Path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(source: str) -> str:
    Path("worker.py").write_text(textwrap.dedent(source))
    return "worker.py"


def request(number: int, item: Any) -> dict[str, Any]:
    return {"id": number, "index": number, "key": f"k{number}", "attempt": 1, "item": item}


def speak(source: str, *items: Any, end: str = "\n") -> tuple[list[dict[str, Any]], str, int]:
    """The answers to items, standard error, and the exit code."""
    lines = "\n".join(json.dumps(request(number, item)) for number, item in enumerate(items))
    ended = subprocess.run(
        [sys.executable, write(source)], input=lines + end, capture_output=True, text=True, timeout=60, check=False
    )
    return [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr, ended.returncode


def run_job(source: str, items: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    Path("in.jsonl").write_text("".join(f"{item}\n" for item in items))
    command = ["run", "--worker", "in.jsonl", *options, "--", sys.executable, write(source)]
    return subprocess.run(
        [sys.executable, "-m", "safepoint", *command], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("end", ["\n", ""])
def test_each_item_is_answered_in_order(end: str) -> None:
    source = """
        import safepoint

        def work(item):
            return [item, item]

        safepoint.worker(work)
        """
    items: list[Any] = ["text", 1, {"a": [None]}, "\u00e4\U0001f600\n"]
    answers, _, code = speak(source, *items, end=end)
    assert code == 0
    assert answers == [{"id": number, "result": [item, item]} for number, item in enumerate(items)]


def test_exceptions_are_failed_attempts_and_say_whether_to_retry() -> None:
    answers, errors, _ = speak(
        """
        import safepoint

        def work(item):
            if item == "bad":
                raise ValueError("no good")
            if item == "later":
                raise safepoint.Retry("away", after=2.5)
            if item == "never":
                raise safepoint.Refuse("not this")
            if item == "exit":
                return {"a": {1, 2}}
            return item

        safepoint.worker(work)
        """,
        "bad",
        "later",
        "never",
        "exit",
        "good",
    )
    assert answers == [
        {"id": 0, "error": "ValueError: no good"},
        {"id": 1, "error": "away", "retry_after": 2.5},
        {"id": 2, "error": "not this", "retry": False},
        {
            "id": 3,
            "error": "InvalidError: the result has a `set` at `['a']`, which JSON cannot say",
            "retry": False,
        },
        {"id": 4, "result": "good"},
    ]
    assert "Traceback" in errors


def test_prints_go_to_standard_error_also_those_of_children_and_c() -> None:
    answers, errors, code = speak(
        """
        import os, safepoint, subprocess, sys

        def work(item):
            print("printed")
            os.write(1, b"written\\n")
            subprocess.run(["echo", "by a child"], check=True)
            assert sys.stdin.read() == ""
            return item

        safepoint.worker(work)
        """,
        1,
    )
    assert (answers, code) == ([{"id": 0, "result": 1}], 0)
    for said in ("printed", "written", "by a child"):
        assert said in errors


def test_progress_and_cost_come_before_the_result() -> None:
    answers, _, _ = speak(
        """
        import safepoint

        def work(item, attempt):
            attempt.progress(0.5)
            attempt.cost("0.002")
            return [attempt.index, attempt.key, attempt.number]

        safepoint.worker(work)
        """,
        "x",
    )
    assert answers == [{"id": 0, "progress": 0.5}, {"id": 0, "cost": 0.002}, {"id": 0, "result": [0, "k0", 1]}]


def test_an_async_function_has_several_in_progress() -> None:
    answers, _, code = speak(
        """
        import asyncio, safepoint

        both = asyncio.Event()
        waiting = 0

        async def work(item):
            global waiting
            if item == "bad":
                raise ValueError("bad")
            waiting += 1
            if waiting == 2:
                both.set()
            await both.wait()
            return item

        safepoint.worker(work)
        """,
        "a",
        "bad",
        "b",
    )
    assert code == 0
    assert sorted(answers, key=lambda answer: int(answer["id"])) == [
        {"id": 0, "result": "a"},
        {"id": 1, "error": "ValueError: bad"},
        {"id": 2, "result": "b"},
    ]


def test_an_answer_does_not_wait_for_the_next_item() -> None:
    source = write("""
        import safepoint
        safepoint.worker(lambda item: item)
        """)
    with subprocess.Popen([sys.executable, source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for number in range(3):
            print(json.dumps(request(number, "x")), file=worker.stdin, flush=True)
            assert json.loads(worker.stdout.readline()) == {"id": number, "result": "x"}
        worker.stdin.close()
        assert worker.wait(60) == 0


def test_a_runner_that_is_gone_ends_the_worker_quietly() -> None:
    source = write("""
        import safepoint
        safepoint.worker(lambda item: "x" * 100_000)
        """)
    with subprocess.Popen(
        [sys.executable, source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stderr is not None
        worker.stdout.close()
        print(json.dumps(request(0, "x")), file=worker.stdin, flush=True)
        assert worker.wait(60) == 1
        assert worker.stderr.read() == ""


def test_a_result_that_is_too_long_is_refused() -> None:
    answers, _, _ = speak("import safepoint\nsafepoint.worker(lambda item: 'x' * (17 << 20))", 1)
    assert answers[0]["retry"] is False
    assert "more than 16 MiB" in answers[0]["error"]


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(safepoint.InvalidError):
        safepoint.worker("work")  # type: ignore[arg-type]


@pytest.mark.parametrize("asynchronous", ["", "async "])
def test_a_job_of_workers(asynchronous: str) -> None:
    source = f"""
        import os, safepoint

        tried = set()

        {asynchronous}def work(item, attempt):
            if item["n"] == 5 and attempt.number == 1:
                os._exit(9)
            if item["n"] == 6:
                raise safepoint.Refuse("six")
            return item["n"] * 2

        safepoint.worker(work)
        """
    items = [json.dumps({"n": number}) for number in range(200)]
    ended = run_job(source, items, "-j", "2", "--pipeline", "8")
    assert ended.returncode == 3, ended.stderr
    results = subprocess.run(
        [sys.executable, "-m", "safepoint", "results", "in"], capture_output=True, text=True, check=True, timeout=60
    )
    rows = [json.loads(line) for line in results.stdout.splitlines()]
    assert {row["index"]: row["result"] for row in rows if row["state"] == "done"} == {
        number: number * 2 for number in range(200) if number != 6
    }
