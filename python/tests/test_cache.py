"""The cache: computed once by one of all, never a wrong result, nothing kept that is no result."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import safepoint
from conftest import Start
from safepoint import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_a_result_is_computed_once_for_its_arguments(cache: Cache) -> None:
    calls: list[Any] = []

    @cache.remember(version=1)
    def double(a: int, b: float = 2.0, *, c: Any = None) -> dict[str, Any]:
        """Doubles."""
        calls.append((a, b, c))
        return {"a": 2 * a, "array": np.full(3, b), "tuple": (1, c)}

    first = double(3)
    again = double(3, 2.0, c=None)
    assert len(calls) == 1 and first["a"] == again["a"] == 6 and again["tuple"] == (1, None)
    assert np.array_equal(again["array"], first["array"]) and again["array"].flags.writeable
    double(b=2.0, a=4)
    # 2 and 2.0, True and 1, a tuple and a list are different things.
    various: list[tuple[Any, ...]] = [
        (3, 2),
        (True,),
        (3, 2.0, {"c": (1,)}),
        (3, 2.0, {"c": [1]}),
        (3, 2.0, {"c": {"$tuple": [1]}}),
    ]
    for arguments in various:
        *positional, named = (*arguments, {}) if not isinstance(arguments[-1], dict) else arguments
        double(*positional, **named)
    assert len(calls) == 7
    assert (cache.statistics.hits, cache.statistics.computed) == (1, 7)
    assert double.__name__ == "double" and double.__doc__ == "Doubles."
    assert double.compute(1)["a"] == 2  # type: ignore[attr-defined]
    assert double.forget().entries == 7  # type: ignore[attr-defined]
    double(3)
    assert len(calls) == 9


def test_results_outlive_the_process_that_computed_them(cache: Cache) -> None:
    def make(of: Cache, version: int) -> Any:
        @of.remember(key="words", version=version)
        def words() -> list[str]:
            calls.append(version)
            return ["a", "b"]

        return words

    calls: list[int] = []
    assert make(cache, 1)() == make(Cache(cache.path), 1)() == ["a", "b"]
    assert calls == [1]
    make(cache, 2)()
    assert calls == [1, 2]
    assert cache.remove("words").entries == 2 and cache.clear().entries == 0


def test_what_changes_nothing_can_be_left_out(cache: Cache) -> None:
    calls = []

    @cache.remember(ignore=("threads",))
    def work(path: Path, threads: int) -> int:
        calls.append(threads)
        return threads

    assert work(Path("a"), 1) == work(Path("a"), 2) == 1 and calls == [1]
    with pytest.raises(safepoint.InvalidError, match="no parameter `workers`"):
        cache.remember(ignore=("workers",))(lambda: 1)


@pytest.mark.parametrize("value", [object(), np.zeros(3), {1: 2}, {"a": [lambda: 1]}, {1, 2}])
def test_what_cannot_be_a_key_is_refused(cache: Cache, value: Any) -> None:
    @cache.remember
    def work(settings: Any) -> int:
        return 1

    with pytest.raises(safepoint.InvalidError, match=r"`settings.*` is a .*cannot be part of a cache's key") as caught:
        work(value)
    assert caught.value.hint


def test_long_arguments_are_told_by_their_hash(cache: Cache) -> None:
    calls = []

    @cache.remember
    def length(text: str) -> int:
        calls.append(len(text))
        return len(text)

    assert length("a" * 100_000) == length("a" * 100_000) == 100_000
    assert length("b" * 100_000) == 100_000 and len(calls) == 2
    assert length(b"x" * 10_000_000) == 10_000_000  # type: ignore[arg-type]


def test_an_exception_is_raised_and_not_kept(cache: Cache) -> None:
    calls = []

    @cache.remember
    def flaky() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("the first time")
        return 7

    with pytest.raises(ZeroDivisionError, match="the first time") as caught:
        flaky()
    # Also while somebody holds the exception, and with it all that its frames hold.
    assert flaky() == flaky() == 7 and len(calls) == 2
    assert caught.value.__traceback__ is not None


def test_a_result_that_cannot_be_kept_is_named(cache: Cache) -> None:
    @cache.remember
    def bad() -> Any:
        return {"x": [print]}

    with pytest.raises(safepoint.InvalidError, match=r'result\["x"\]\[0\] is a builtin'):
        bad()
    with pytest.raises(safepoint.InvalidError, match="is a generator"):

        @cache.remember
        def endless() -> Any:
            yield 1


def test_one_that_asks_for_itself_is_told(cache: Cache) -> None:
    @cache.remember
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(20) == 6765

    @cache.remember
    def same(n: int) -> int:
        return same(n)

    with pytest.raises(safepoint.InvalidError, match="asked for by the code that computes it"):
        same(1)
    with pytest.raises(safepoint.InvalidError, match="asked for by the code that computes it"):
        same(1)


@dataclasses.dataclass
class Words:
    words: list[str]


def test_dataclasses_are_made_of_classes_that_are_shown(cache: Cache) -> None:
    @cache.remember(like=Words)
    def shown() -> Words:
        return Words(["a"])

    assert shown() == shown() == Words(["a"])

    @cache.remember
    def hidden() -> Words:
        return Words(["a"])

    hidden()
    with pytest.raises(safepoint.InvalidError, match="a class that was not given"):
        hidden()


def test_a_damaged_entry_is_computed_anew_and_told(cache: Cache) -> None:
    heard: list[str] = []
    calls: list[int] = []

    def made(of: Cache) -> Any:
        @of.remember(key="k")
        def work() -> np.ndarray:
            calls.append(1)
            return np.arange(1000)

        return work

    made(cache)()
    (entry,) = Path(cache.path).glob("*.entry")
    data = bytearray(entry.read_bytes())
    data[200] ^= 1
    entry.write_bytes(data)
    other = Cache(cache.path, on_notice=heard.append)
    assert np.array_equal(made(other)(), np.arange(1000)) and len(calls) == 2
    assert len(heard) == 1 and "computed anew" in heard[0]
    assert other.statistics.computed_anew == 1


def test_what_was_not_used_for_the_longest_time_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", max_bytes=100_000, compression="never")

    @cache.remember
    def kib(n: int) -> np.ndarray:
        return np.random.default_rng(n).integers(0, 255, 10_000, np.uint8)

    for n in range(30):
        kib(n)
    size = sum(path.stat().st_size for path in Path(cache.path).glob("*.entry"))
    assert size <= 100_000 and cache.statistics.evicted > 15


def test_of_many_threads_one_computes(cache: Cache) -> None:
    calls = []
    begun, go_on = threading.Event(), threading.Event()

    @cache.remember
    def slow(n: int) -> int:
        calls.append(n)
        begun.set()
        go_on.wait(60)
        return n

    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(slow(5))) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    go_on.set()
    for thread in threads:
        thread.join()
    assert results == [5] * 8 and calls == [5]


def test_of_many_coroutines_one_computes_also_when_it_is_given_up(cache: Cache) -> None:
    calls = []

    @cache.remember
    async def slow(n: int) -> int:
        calls.append(n)
        if len(calls) == 1:
            await asyncio.sleep(3600)
        return n

    async def main() -> list[int]:
        first = asyncio.ensure_future(slow(5))
        others = [asyncio.ensure_future(slow(5)) for _ in range(5)]
        while not calls:
            await asyncio.sleep(0)
        # A coroutine that waits may be given up as well.
        others.pop().cancel()
        first.cancel()
        return await asyncio.gather(*others)

    assert asyncio.run(main()) == [5] * 4 and calls == [5, 5]


def test_of_several_processes_one_computes_and_a_killed_one_holds_nobody_up(tmp_path: Path, start: Start) -> None:
    source = """
        import os, signal, sys, safepoint
        cache = safepoint.Cache(sys.argv[1])

        @cache.remember(key="slow")
        def slow():
            print("computing")
            if sys.argv[2] == "hang":
                signal.pause()
            return os.getpid()

        print("got", slow())
    """
    place = str(tmp_path / "cache")
    first = start(source, place, "hang")
    first.until("computing")
    others = [start(source, place, "go") for _ in range(3)]
    first.send(signal.SIGKILL)
    ends = [other.end() for other in others]
    assert all(code == 0 for code, _, _ in ends), ends
    assert sum("computing" in lines for _, lines, _ in ends) == 1
    assert len({lines[-1] for _, lines, _ in ends}) == 1


def test_a_stop_ends_the_wait_for_another_process(tmp_path: Path, start: Start) -> None:
    source = """
        import signal, sys, safepoint
        cache = safepoint.Cache(sys.argv[1])

        @cache.remember(key="slow")
        def slow():
            print("computing")
            signal.pause()

        with safepoint.shutdown(announce=False) as stop:
            print("up")
            slow()
        sys.exit(stop.exit_code)
    """
    place = str(tmp_path / "cache")
    first = start(source, place)
    first.until("computing")
    second = start(source, place)
    second.until("up")
    second.send(signal.SIGTERM)
    code, lines, errors = second.end()
    assert code == 143 and lines[-1] == "up", errors


def test_a_fork_in_the_middle_of_a_computation_keeps_nothing_and_frees_nothing(cache: Cache) -> None:
    @cache.remember
    def work() -> int:
        pid = os.fork()
        if pid == 0:
            gc.collect()
            os._exit(0)
        os.waitpid(pid, 0)
        assert list((Path(cache.path) / "locks").iterdir())
        return 1

    assert work() == work() == 1


def test_caches_leave_nothing_behind(tmp_path: Path) -> None:
    def once(n: int) -> None:
        cache = Cache(tmp_path / "c")

        @cache.remember(key="k")
        def work(n: int) -> np.ndarray:
            return np.arange(n)

        work(n % 3)

    for n in range(10):
        once(n)
    gc.collect()
    before = len(os.listdir("/proc/self/fd")), len(gc.get_objects())
    for n in range(300):
        once(n)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) < before[0] + 10 and len(gc.get_objects()) - before[1] < 500


def test_a_directory_with_other_things_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(safepoint.InvalidError, match="is no cache"):
        Cache(tmp_path)
