"""What a stop does to executors, pools, futures, processes and asyncio tasks.

Two things, for each kind of work: what is pending is given up as soon as a stop is asked for, and the end of the block
waits for what is running. When the stop becomes immediate, processes are ended; threads cannot be.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import InvalidError, Stopped

if TYPE_CHECKING:
    import asyncio
    import multiprocessing.pool
    import multiprocessing.process
    from concurrent.futures import Executor, Future, ProcessPoolExecutor

    from ._shutdown import ShutdownToken


@dataclass(frozen=True)
class Work:
    """How a stop treats one kind of work."""

    #: Begins nothing more, and returns at once.
    give_up_pending: Callable[[], object]
    #: Waits for what is running, so many seconds at most; says whether it ended.
    wait: Callable[[float], bool]
    #: Ends what is still running, if that can be done.
    kill: Callable[[], object] = lambda: None


def track(token: ShutdownToken, work: object, name: str | None) -> None:
    """Makes the stop of ``token`` reach ``work``."""
    known = _known(work)
    if known is None:
        kind = type(work)
        raise InvalidError(
            f"a stop cannot reach a `{kind.__module__}.{kind.__qualname__}`",
            hint="track an executor, a multiprocessing pool or process, a future or an asyncio task; "
            "for anything else register a hook",
        )
    if token._attendant is None:
        token._attendant = Attendant(token)
    tracked = Tracked(known, name or type(work).__name__)
    if hasattr(work, "submit"):
        tracked.undo = _refuse_softly(token, work)
    elif hasattr(work, "_check_running"):
        tracked.undo = _refuse_by_stopped(token, work)
    token._attendant.add(tracked)
    if hasattr(work, "add_done_callback"):
        # What is done needs no attendance: a server may track one for each request.
        attendant = weakref.ref(token._attendant)
        work.add_done_callback(lambda _: _forget(attendant, tracked))


def _forget(attendant: weakref.ref[Attendant], tracked: Tracked) -> None:
    living = attendant()
    if living is not None:
        living.forget(tracked)


def _refuse_softly(token: ShutdownToken, executor: Any) -> Callable[[], object]:
    """After the stop, what is submitted is given up at once; the executor's own answer would be a `RuntimeError`.

    Returns what undoes it.
    """
    submit = executor.submit

    def submit_or_give_up(function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        try:
            if not token.requested:
                return submit(function, *arguments, **named)  # type: ignore[no-any-return]
        except RuntimeError:
            # It was shut down between the look and the call, or by somebody else.
            if not token.requested:
                raise
        from concurrent.futures import Future

        given_up: Future[Any] = Future()
        given_up.cancel()
        given_up.set_running_or_notify_cancel()
        return given_up

    executor.submit = submit_or_give_up

    def undo() -> None:
        if executor.__dict__.get("submit") is submit_or_give_up:
            del executor.submit

    return undo


def _refuse_by_stopped(token: ShutdownToken, pool: Any) -> Callable[[], object]:
    """After the stop, a pool takes nothing on; its own answer would be a `ValueError`. Returns what undoes it."""
    check_running = pool._check_running

    def check() -> None:
        if token.requested:
            raise Stopped("the pool does not begin this work: a stop was asked for")
        check_running()

    pool._check_running = check

    def undo() -> None:
        if pool.__dict__.get("_check_running") is check:
            del pool._check_running

    return undo


def _known(work: object) -> Work | None:
    # By the module of the class, so that nothing is imported here that the program has not.
    import sys

    futures = sys.modules.get("concurrent.futures.process")
    if futures is not None and isinstance(work, futures.ProcessPoolExecutor):
        return _process_pool(work)
    futures = sys.modules.get("concurrent.futures")
    if futures is not None:
        if isinstance(work, futures.Executor):
            return _executor(work)
        if isinstance(work, futures.Future):
            return _future(work)
    loop = sys.modules.get("asyncio")
    if loop is not None:
        if isinstance(work, loop.Future):
            return _asyncio(work)
        # Since Python 3.11.
        if hasattr(loop, "TaskGroup") and isinstance(work, loop.TaskGroup):
            return _task_group(work)
    pool = sys.modules.get("multiprocessing.pool")
    if pool is not None and isinstance(work, pool.Pool):
        return _multiprocessing_pool(work)
    process = sys.modules.get("multiprocessing.process")
    if process is not None and isinstance(work, process.BaseProcess):
        return _process(work)
    return None


def _executor(executor: Executor) -> Work:
    def wait(seconds: float) -> bool:
        # `shutdown(wait=True)` has no time-out; what it waits for has.
        return _join(list(getattr(executor, "_threads", ())), seconds)

    def give_up_pending() -> None:
        from queue import Empty

        queue = getattr(executor, "_work_queue", None)
        if queue is None:
            executor.shutdown(wait=False, cancel_futures=True)
            return
        # As `cancel_futures` does it, with the futures in our hands. All are taken away before one is cancelled, for
        # the threads go on taking meanwhile. `None` tells them to leave.
        executor.shutdown(wait=False)
        handed = []
        try:
            while True:
                handed.append(queue.get_nowait())
        except Empty:
            queue.put(None)
        futures = [item.future for item in handed if item is not None]
        for future in futures:
            future.cancel()
        _tell_those_who_wait(futures)

    return Work(give_up_pending, wait)


def _process_pool(executor: ProcessPoolExecutor) -> Work:
    # The dictionary is gone from the executor after its shutdown; the processes are not.
    processes: dict[int, Any] = {}

    def give_up_pending() -> None:
        processes.update(getattr(executor, "_processes", None) or {})
        handed = [item.future for item in list((getattr(executor, "_pending_work_items", None) or {}).values())]
        manager = getattr(executor, "_executor_manager_thread", None)
        executor.shutdown(wait=False, cancel_futures=True)
        if manager is not None:
            threading.Thread(target=settle, args=(manager, handed), name="safepoint-executor", daemon=True).start()

    def settle(manager: threading.Thread, handed: list[Future[Any]]) -> None:
        from time import sleep

        # The executor's own thread cancels, some time later; it trips over a future that was told of before.
        while getattr(executor, "_cancel_pending_futures", False) and manager.is_alive():
            sleep(0.001)
        _tell_those_who_wait(handed)

    def wait(seconds: float) -> bool:
        return _join(list(processes.values()), seconds)

    return Work(give_up_pending, wait, lambda: _end(list(processes.values())))


def _tell_those_who_wait(futures: list[Future[Any]]) -> None:
    """For `wait` and `as_completed`: `cancel_futures` cancels without telling them, and they would wait for ever."""
    for future in futures:
        # Source: `Future.set_running_or_notify_cancel` in Lib/concurrent/futures/_base.py.
        if getattr(future, "_state", None) == "CANCELLED":
            future.set_running_or_notify_cancel()


def _multiprocessing_pool(pool: multiprocessing.pool.Pool) -> Work:
    from ._pools import give_up_pending

    settling: list[threading.Thread] = []

    def give_up() -> None:
        thread = give_up_pending(pool)
        if thread is not None:
            settling.append(thread)

    def workers() -> list[Any]:
        return [*settling, *getattr(pool, "_pool", ())]

    def kill() -> None:
        # Workers of a pool of threads cannot be ended.
        _end([worker for worker in workers() if hasattr(worker, "kill")])

    return Work(give_up, lambda seconds: _join(workers(), seconds), kill)


def _process(process: multiprocessing.process.BaseProcess) -> Work:
    def give_up_pending() -> None:
        # One process is running work: it hears of the stop by its token, if it has one.
        return

    return Work(give_up_pending, lambda seconds: _join([process], seconds), lambda: _end([process]))


def _future(future: Future[Any]) -> Work:
    def wait(seconds: float) -> bool:
        from concurrent.futures import wait as wait_for

        return not wait_for([future], timeout=seconds).not_done

    return Work(future.cancel, wait)


def _asyncio(future: asyncio.Future[Any]) -> Work:
    loop = future.get_loop()
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())

    def soon(call: Callable[[], object]) -> None:
        if not future.done() and not loop.is_closed():
            loop.call_soon_threadsafe(call)

    return Work(lambda: soon(lambda: _cancel_unbegun(future)), ended.wait, lambda: soon(future.cancel))


def _task_group(group: Any) -> Work:
    tasks: dict[Any, Work] = {}

    def known() -> list[Work]:
        for task in list(getattr(group, "_tasks", ())):
            if task not in tasks:
                tasks[task] = _asyncio(task)
        return list(tasks.values())

    def wait(seconds: float) -> bool:
        from time import monotonic

        end = monotonic() + seconds
        return all(work.wait(max(0.0, end - monotonic())) for work in known())

    return Work(
        lambda: [work.give_up_pending() for work in known()],
        wait,
        lambda: [work.kill() for work in known()],
    )


def _cancel_unbegun(future: asyncio.Future[Any]) -> None:
    """Cancels a task whose coroutine has not run a line. One that has is work in progress: it hears of the stop by its
    token.
    """
    from inspect import CORO_CREATED, getcoroutinestate, iscoroutine

    coroutine = future.get_coro() if hasattr(future, "get_coro") else None
    if iscoroutine(coroutine) and getcoroutinestate(coroutine) == CORO_CREATED:
        future.cancel()


def _join(workers: list[Any], seconds: float) -> bool:
    from time import monotonic

    end = monotonic() + seconds
    for worker in workers:
        if worker is threading.current_thread():
            continue
        worker.join(max(0.0, end - monotonic()))
    return not any(worker.is_alive() for worker in workers)


def _end(processes: list[Any]) -> None:
    """SIGTERM, and SIGKILL for those that do not mind it."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    if not _join(processes, 0.3):
        for process in processes:
            if process.is_alive():
                process.kill()


class Tracked:
    """One piece of work that a stop reaches."""

    def __init__(self, work: Work, name: str) -> None:
        self.work = work
        self.name = name
        self.undo: Callable[[], object] = lambda: None
        self.was_killed = False

    def kill(self) -> None:
        """Ends it, unless it has ended."""
        if not self.work.wait(0):
            self.was_killed = True
            self.work.kill()


class Attendant:
    """Carries a stop to what is tracked, while the main thread waits for a result.

    A thread of its own gives up what is pending as soon as a stop is asked for, and ends what is still running when the
    stop is immediate or the time for draining is over. Without a stop it does nothing.
    """

    def __init__(self, token: ShutdownToken) -> None:
        self._lock = threading.Lock()
        #: Held while what is pending is given up, for whoever comes second to find it done.
        self._giving_up = threading.Lock()
        self._tracked: list[Tracked] = []
        self._is_stopping = False
        stopping = os.dup(token.fileno())
        leave, self._leave = os.pipe()
        # Nothing here holds on to the token, so that a child's attendant ends with the child.
        weakref.finalize(token, self.end)
        asked = weakref.ref(token)
        token.hook("drain", "tracked work")(lambda seconds: self._drain(asked(), seconds))
        token.hook("close", "tracked work")(lambda seconds: self._close(asked(), seconds))
        threading.Thread(
            target=self._attend, args=(stopping, leave, asked), name="safepoint-attendant", daemon=True
        ).start()

    def add(self, tracked: Tracked) -> None:
        """From now on the stop reaches it; at once, if it has been asked for."""
        with self._lock:
            self._tracked.append(tracked)
            is_stopping = self._is_stopping
        if is_stopping:
            tracked.work.give_up_pending()

    def forget(self, tracked: Tracked) -> None:
        """It has ended."""
        with self._lock:
            if tracked in self._tracked and not tracked.was_killed:
                self._tracked.remove(tracked)

    def end(self) -> None:
        """Ends the thread, and leaves what is tracked as it was before."""
        with self._lock:
            leave, self._leave = self._leave, -1
            tracked, self._tracked = self._tracked, []
        if leave >= 0:
            os.close(leave)
        for each in tracked:
            each.undo()

    def _all(self) -> list[Tracked]:
        with self._lock:
            return list(self._tracked)

    def _attend(self, stopping: int, leave: int, asked: weakref.ref[ShutdownToken]) -> None:
        # By descriptors: a thread that waits in the interpreter would wake ten times a second.
        poll = select.poll()
        poll.register(leave, select.POLLIN)
        poll.register(stopping, select.POLLIN)
        try:
            while True:
                seen = dict(poll.poll())
                if leave in seen:
                    return
                token = asked()
                if token is None or token.reason is None:
                    # The end of a block that nobody stopped.
                    return
                del token
                self._give_up()
                # From now on for the hang-up only: it stays readable.
                poll.modify(stopping, 0)
                if seen[stopping] & select.POLLHUP:
                    for each in self._all():
                        each.kill()
                    return
        finally:
            os.close(stopping)
            os.close(leave)

    def _give_up(self) -> None:
        """Begins nothing more, if that was not done yet: the block may end before the thread has woken."""
        with self._giving_up:
            with self._lock:
                if self._is_stopping:
                    return
                self._is_stopping = True
                tracked = list(self._tracked)
            for each in tracked:
                each.work.give_up_pending()

    def _drain(self, token: ShutdownToken | None, seconds: float) -> None:
        if token is None or token.reason is None:
            return
        from time import monotonic

        self._give_up()
        end = monotonic() + seconds * 0.95
        for each in self._all():
            # In slices, for an immediate request to be heard: a hook has 50 ms left then.
            while not each.work.wait(max(0.0, min(0.02, end - monotonic()))):
                if monotonic() >= end or token.phase in ("terminating", "stopped"):
                    return

    def _close(self, token: ShutdownToken | None, seconds: float) -> None:
        if token is None or token.reason is None:
            return
        from time import monotonic

        self._give_up()
        end = monotonic() + seconds * 0.9
        left = []
        for each in self._all():
            each.kill()
            if not each.work.wait(max(0.0, end - monotonic())):
                left.append(each.name)
        if left:
            raise TimeoutError(f"still running at the end of the grace period: {', '.join(left)}")
        killed = [each.name for each in self._all() if each.was_killed]
        if killed:
            raise TimeoutError(f"ended, for it was still running: {', '.join(killed)}")
