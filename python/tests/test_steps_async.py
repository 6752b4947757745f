"""Steps and effects of coroutines: many at once, cancelled, and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import safepoint
from safepoint import Doubt, Held, Intent, Steps


def opened(directory: Path, **options: Any) -> Steps:
    return Steps(directory / "steps", stop=False, **options)


async def explode() -> int:
    raise AssertionError("this must not run")


def test_the_same_call_awaits_a_coroutine_function(tmp_path: Path) -> None:
    async def fetch(url: str) -> Sequence[object]:
        await asyncio.sleep(0)
        return url, 1

    async def main() -> None:
        async with opened(tmp_path) as steps:
            assert await steps.step("a", fetch, "a") == ["a", 1]

            @steps.step
            async def decorated(number: int) -> int:
                return number

            assert await decorated(3) == 3
            assert steps.recorded('decorated("number":3)') == 3

            class Callable:
                async def __call__(self) -> int:
                    return 5

            assert await steps.step_async("callable", Callable()) == 5
            with pytest.raises(TypeError, match="step_async"):
                await steps.step("other", Callable())
        async with opened(tmp_path) as steps:
            assert await steps.step("a", fetch, "b") == ["a", 1]

    asyncio.run(main())


def test_many_hundred_at_once_do_not_block_each_other(tmp_path: Path) -> None:
    inside = 0

    async def main() -> None:
        nonlocal inside
        everybody = asyncio.Event()

        async def body(number: int) -> int:
            # All are in progress at the same time before any ends.
            nonlocal inside
            inside += 1
            if inside == 800:
                everybody.set()
            await everybody.wait()
            return number

        with opened(tmp_path) as steps:
            together = asyncio.gather(*(steps.step(f"step-{number}", body, number) for number in range(800)))
            assert await asyncio.wait_for(together, 60) == list(range(800))

    asyncio.run(main())


def test_the_loop_goes_on_while_steps_are_synced(tmp_path: Path) -> None:
    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def body() -> int:
            # Lets nobody else run: only the wait for the sync does.
            return 1

        counting = asyncio.create_task(count())
        with opened(tmp_path) as steps:
            for number in range(20):
                before = turns
                await steps.step(f"step-{number}", body)
                assert turns > before
        counting.cancel()

    asyncio.run(main())


def test_a_cancelled_step_may_be_asked_for_again(tmp_path: Path) -> None:
    told: list[str] = []

    async def main() -> None:
        began = asyncio.Event()

        async def forever() -> int:
            began.set()
            await asyncio.Event().wait()
            return 1

        with opened(tmp_path, on_notice=lambda notice: told.append(notice.event)) as steps:
            task = asyncio.create_task(steps.at("slow", memoise_errors=True).run_async(forever))
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert told == ["starting", "interrupted"]
            assert await steps.step("slow", asyncio.sleep, 0, 7) == 7
            assert steps.close().failed == 0

    asyncio.run(main())


def test_a_result_that_was_there_is_recorded_though_nobody_waits_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        with opened(tmp_path) as steps:
            task: asyncio.Task[int]

            async def body() -> int:
                # Takes effect at the next await: that for the sync.
                task.cancel()
                return 1

            task = asyncio.create_task(steps.step_async("done", body))
            with pytest.raises(asyncio.CancelledError):
                await task
        with opened(tmp_path) as steps:
            assert await steps.step("done", explode) == 1

    asyncio.run(main())


def test_what_is_inside_a_failed_step_may_be_asked_for_again_in_tasks_too(tmp_path: Path) -> None:
    paid: list[str] = []
    ran: list[str] = []

    async def pay(intent: Intent) -> str:
        paid.append(intent.idempotency_key)
        return "receipt"

    async def pack(name: str) -> str:
        ran.append(name)
        return name

    async def main() -> None:
        ships = iter((False, True))

        async def order(steps: Steps) -> str:
            await steps.effect("pay", pay)
            await asyncio.gather(steps.step("pack-1", pack, "1"), steps.step("pack-2", pack, "2"))
            await asyncio.to_thread(steps.step, "print", lambda: ran.append("print"))
            if not next(ships):
                raise OSError("the harbour is closed")
            return "shipped"

        with opened(tmp_path) as steps:
            with pytest.raises(OSError):
                await steps.step("order", order, steps)
            assert await steps.step("order", order, steps) == "shipped"

    asyncio.run(main())
    assert len(paid) == 1
    assert sorted(ran) == ["1", "2", "print"]


def test_a_stop_reaches_steps_of_tasks(tmp_path: Path) -> None:
    ended: list[object] = []

    async def main() -> None:
        async with safepoint.shutdown(signals=False, grace=20) as stop, Steps(tmp_path / "steps") as steps:

            async def body(number: int) -> int:
                if number == 3:
                    stop.request("enough")
                await asyncio.sleep(0.01)
                return number

            steppers = (steps.step_async(f"step-{number}", body, number) for number in range(8))
            ended.extend(await asyncio.gather(*steppers, return_exceptions=True))
        assert stop.report is not None and stop.report.is_clean

    asyncio.run(main())
    # Those that had begun before the stop end, and no other begins.
    assert ended[:4] == [0, 1, 2, 3]
    assert all(isinstance(end, safepoint.Stopped) for end in ended[4:])


def test_effects_of_coroutines(tmp_path: Path) -> None:
    async def pay(intent: Intent) -> int:
        return 1

    async def fail(intent: Intent) -> int:
        raise TimeoutError

    async def refuse(intent: Intent) -> int:
        raise intent.not_done(ConnectionRefusedError())

    async def look_up(doubt: Doubt) -> object:
        await asyncio.sleep(0)
        return doubt.completed(9)

    async def main() -> None:
        async with opened(tmp_path) as steps:
            assert await steps.effect("pay", pay) == 1
            for key in ("held", "again", "asked"):
                with pytest.raises(TimeoutError):
                    await steps.effect(key, fail)
            with pytest.raises(ConnectionRefusedError):
                await steps.effect("refused", refuse)
            assert await steps.effect("refused", pay) == 1
        async with opened(tmp_path) as steps:
            assert await steps.effect("pay", fail) == 1
            with pytest.raises(Held):
                await steps.effect("held", pay)
            assert await steps.effect("again", pay, in_doubt="run_again") == 1
            assert await steps.effect("asked", fail, in_doubt=look_up) == 9

    asyncio.run(main())


def test_an_effect_that_was_cancelled_before_it_began_is_not_in_doubt(tmp_path: Path) -> None:
    ran: list[int] = []

    async def pay(intent: Intent) -> int:
        ran.append(1)
        return 1

    async def main() -> None:
        async with opened(tmp_path) as steps:
            task = asyncio.create_task(steps.effect("pay", pay))
            # It has begun to write its intent, and no more.
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert ran == []
        async with opened(tmp_path) as steps:
            assert await steps.effect("pay", pay) == 1

    asyncio.run(main())
    assert ran == [1]
