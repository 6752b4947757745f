"""Giving up the pending work of a `multiprocessing.Pool`.

The pool has no way to do that but `terminate`, which kills what is running, too. So this does the other steps of its
`terminate`: the threads that start workers and hand work out are told to stop, what lies in the pipe to the workers is
taken back, and whoever waits for a result that will not come is told. Source: `_terminate_pool`, `_handle_workers`,
`_handle_tasks` and `_handle_results` in Lib/multiprocessing/pool.py, alike in Python 3.10 to 3.14.
"""

from __future__ import annotations

import threading
from time import sleep
from typing import TYPE_CHECKING, Any

from ._errors import Stopped

if TYPE_CHECKING:
    from multiprocessing.pool import Pool

_TERMINATE = "TERMINATE"


def give_up_pending(pool: Pool) -> threading.Thread | None:
    """Begins nothing more in ``pool``, and returns at once: what a worker has goes on.

    Returns the thread that waits for the workers and settles what is left; ``None`` if the pool is closed already.
    """
    inside: Any = pool
    if inside._state != "RUN":
        return None
    pool.close()
    settle = threading.Thread(target=_settle, args=(inside,), name="safepoint-pool", daemon=True)
    settle.start()
    return settle


def _settle(pool: Any) -> None:
    # Otherwise it would replace the workers that leave, as long as there are results to come.
    pool._worker_handler._state = _TERMINATE
    pool._change_notifier.put(None)
    # Looked at before each piece of work is put into the pipe.
    pool._task_handler._state = _TERMINATE
    pool._worker_handler.join()
    _take_back(pool)
    workers = list(pool._pool)
    for _ in workers:
        pool._inqueue.put(None)
    for worker in workers:
        worker.join()
    _read_the_last_results(pool)
    for result in list(pool._cache.values()):
        _tell(result)
    pool._cache.clear()


def _take_back(pool: Any) -> None:
    """Empties the pipe to the workers, until the thread that fills it has ended."""
    queue, handler = pool._inqueue, pool._task_handler
    if not hasattr(queue, "_rlock"):
        # A pool of threads: a plain queue.
        handler.join()
        while not queue.empty():
            queue.get()
        return
    while True:
        was_alive = handler.is_alive()
        # A worker that waits for work holds the lock: then the pipe is empty, and it waits for the sentinel.
        if queue._rlock.acquire(timeout=0.01):
            try:
                while queue._reader.poll():
                    queue._reader.recv()
            finally:
                queue._rlock.release()
        if not was_alive:
            return
        handler.join(timeout=0.01)


def _read_the_last_results(pool: Any) -> None:
    handler, queue = pool._result_handler, pool._outqueue
    is_empty = queue.empty
    while handler.is_alive() and not is_empty():
        sleep(0.005)
    handler._state = _TERMINATE
    queue.put(None)
    handler.join()


def _tell(result: Any) -> None:
    """Ends the wait for a result that will not come."""
    if hasattr(result, "_event"):
        # Of apply and map.
        result._success = False
        result._value = Stopped("the pool did not begin this work: a stop was asked for")
        result._event.set()
    elif hasattr(result, "_set_length"):
        # Of imap: it ends after what was computed.
        result._set_length(result._index)
