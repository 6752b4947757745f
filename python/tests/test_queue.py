"""The queue: as a model, from threads, coroutines and processes, with stops and kills."""

from __future__ import annotations

import asyncio
import collections
import json
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import safepoint
from conftest import PATIENCE, Start


@pytest.fixture
def queue(tmp_path: Path) -> safepoint.Queue:
    return safepoint.Queue(tmp_path / "queue", retry_wait=0)


@pytest.fixture
def fast(tmp_path: Path) -> safepoint.Queue:
    """For tests of what is not durability: it waits for no disk."""
    return safepoint.Queue(tmp_path / "queue", retry_wait=0, survives_power_cut=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=JSON | st.binary(), result=JSON | st.binary())
def test_json_values_and_bytes_come_back_as_what_they_were(
    fast: safepoint.Queue, payload: object, result: object
) -> None:
    assert fast.push(payload)
    with fast.claim() as lease:
        assert lease.payload == payload
        assert type(lease.payload) is type(payload)
        lease.result = result
    item = fast.item(lease.name)
    assert item is not None
    assert item.state == "done"
    assert item.payload == payload
    assert item.result == result


def test_what_is_neither_json_nor_bytes_is_refused(queue: safepoint.Queue) -> None:
    for bad in (object(), {1, 2}, float("nan"), {"a": b"b"}):
        with pytest.raises(safepoint.InvalidError) as refused:
            queue.push(bad)
        assert refused.value.hint
    with pytest.raises(safepoint.InvalidError):
        queue.push("x", key="a\nb")
    with pytest.raises(safepoint.InvalidError):
        queue.push("x", delay=-1)
    with pytest.raises(safepoint.InvalidError):
        queue.push_many(["x"], keys=["a", "b"])
    assert sum(queue.stats) == 0


def test_a_known_key_changes_nothing_also_when_it_is_done(queue: safepoint.Queue) -> None:
    assert queue.push("first", key="a")
    assert not queue.push("second", key="a")
    with queue.claim() as lease:
        assert (lease.key, lease.payload, lease.attempt) == ("a", "first", 1)
    assert not queue.push("third", key="a")
    assert queue.push_many([1, 2, 3], keys=["a", "b", None]) == 2
    assert queue.stats == (2, 0, 0, 1, 0)


class Model(RuleBasedStateMachine):
    """The queue does what a dictionary of states would."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, str] = {}
        self.attempts: collections.Counter[str] = collections.Counter()
        self.held: list[safepoint.Lease] = []

    @initialize()
    def open(self) -> None:
        import tempfile

        self.place = tempfile.TemporaryDirectory()
        # Nothing is claimed ahead, so that the counts are exact at each moment.
        place = Path(self.place.name) / "q"
        self.queue = safepoint.Queue(place, retry_wait=0, read_ahead=0, survives_power_cut=False)

    @rule(key=st.sampled_from("abcdef"))
    def push(self, key: str) -> None:
        assert self.queue.push({"key": key}, key=key) == (key not in self.states)
        self.states.setdefault(key, "pending")

    @rule()
    def claim(self) -> None:
        can_be = {key for key, state in self.states.items() if state in ("pending", "waiting")}
        lease = self.queue.claim(0)
        assert (lease is not None) == bool(can_be)
        if lease is not None:
            key = lease.payload["key"]
            assert key in can_be
            self.states[key] = "leased"
            self.attempts[key] += 1
            assert lease.attempt == self.attempts[key]
            self.held.append(lease)

    def take(self) -> tuple[safepoint.Lease, str] | None:
        if not self.held:
            return None
        lease = self.held.pop()
        assert lease.key is not None
        return lease, lease.key

    @rule()
    def acknowledge(self) -> None:
        if taken := self.take():
            lease, key = taken
            lease.acknowledge(key)
            self.states[key] = "done"

    @rule()
    def fail(self) -> None:
        if taken := self.take():
            lease, key = taken
            self.states[key] = "waiting" if self.attempts[key] < 3 else "dead"
            assert lease.fail("no") == self.states[key]

    @rule()
    def release(self) -> None:
        if taken := self.take():
            lease, key = taken
            lease.release()
            self.states[key] = "pending"
            self.attempts[key] -= 1

    @rule()
    def retry(self) -> None:
        dead = [key for key, state in self.states.items() if state == "dead"]
        assert self.queue.retry() == len(dead)
        for key in dead:
            self.states[key] = "pending"
            self.attempts[key] = 0

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "queue"):
            counted = collections.Counter(self.states.values())
            assert self.queue.stats._asdict() == {state: counted[state] for state in safepoint.QueueStats._fields}

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            for lease in self.held:
                lease.detach()
            self.queue.close()
            self.place.cleanup()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=30)


def test_the_block_acknowledges_fails_or_gives_back(queue: safepoint.Queue) -> None:
    queue.push("x", key="a")
    with pytest.raises(RuntimeError, match="once"), queue.claim():
        raise RuntimeError("once")
    item = queue.item("a")
    assert item is not None
    assert (item.state, item.attempts, item.error) == ("waiting", 1, "RuntimeError: once")
    with pytest.raises(KeyboardInterrupt), queue.claim():
        raise KeyboardInterrupt
    item = queue.item("a")
    assert item is not None
    assert (item.state, item.attempts) == ("pending", 1), "it did not count"
    with queue.claim() as lease:
        assert lease.attempt == 2
        lease.acknowledge({"by": "hand"})
        assert not lease.is_held
    item = queue.item("a")
    assert item is not None
    assert item.result == {"by": "hand"}
    with pytest.raises(safepoint.ClosedError, match="settled before"):
        lease.acknowledge()


def test_a_late_acknowledgement_is_refused_and_says_so(queue: safepoint.Queue) -> None:
    queue.push("x", key="a")
    late = queue.claim()
    late.extend(0)
    good = queue.claim()
    assert (good.attempt, good.idempotency_key) == (2, late.idempotency_key)
    with pytest.raises(safepoint.ClosedError, match="claimed again") as refused:
        late.acknowledge("late")
    assert isinstance(refused.value, ValueError)
    assert "extend" in (refused.value.hint or "")
    good.acknowledge("good")
    item = queue.item("a")
    assert item is not None
    assert item.result == "good"


def test_an_item_that_nobody_survives_is_dead_and_can_be_retried(queue: safepoint.Queue) -> None:
    queue.push("poison", key="a")
    for attempt in (1, 2, 3):
        lease = queue.claim()
        assert lease.attempt == attempt
        lease.extend(0)
        lease.detach()
    assert queue.claim(0) is None
    (dead,) = queue.dead()
    assert dead.key == "a"
    assert "expired" in (dead.error or "")
    with pytest.raises(safepoint.NotFoundError):
        queue.retry(["a", "b"])
    assert queue.retry("a") == 1
    assert queue.stats.pending == 1


def test_threads_share_it_and_each_item_is_done_once(queue: safepoint.Queue) -> None:
    queue.push_many(range(400))
    seen: list[int] = []

    def consume() -> None:
        for lease in queue.leases(timeout=0):
            with lease:
                seen.append(lease.payload)

    threads = [threading.Thread(target=consume) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(seen) == list(range(400))
    assert queue.stats.done == 400


def test_the_interpreter_is_free_while_a_claim_waits(queue: safepoint.Queue) -> None:
    claimed: list[safepoint.Lease] = []
    waiting = threading.Thread(target=lambda: claimed.append(queue.claim()))
    waiting.start()
    # It would not come to this, and not to the push, if the waiting thread held the interpreter.
    queue.push("x")
    waiting.join(PATIENCE)
    assert claimed[0].payload == "x"
    claimed[0].acknowledge()


def test_a_stop_ends_the_loop_and_a_claim(queue: safepoint.Queue) -> None:
    queue.push_many(range(10))
    done = []
    with safepoint.shutdown() as stop:
        for lease in queue:
            with lease:
                done.append(lease.payload)
                if len(done) == 3:
                    stop.request("enough")
        with pytest.raises(safepoint.Stopped):
            queue.claim()
        with pytest.raises(safepoint.Stopped):
            queue.claim(0.0)
    assert done == [0, 1, 2]
    # What was claimed ahead is pending again.
    queue.close()
    again = safepoint.Queue(Path(queue.directory))
    assert again.stats == (7, 0, 0, 3, 0)
    again.close()


def test_a_stop_wakes_a_claim_that_waits(queue: safepoint.Queue) -> None:
    with safepoint.shutdown() as stop:
        asking = threading.Timer(0.05, lambda: stop.request("from a thread"))
        asking.start()
        assert list(queue) == []
        asking.join()


def test_a_child_token_stops_only_its_claims(queue: safepoint.Queue) -> None:
    with safepoint.shutdown() as stop:
        child = stop.child("consumer")
        child.request("only this one")
        queue.push("x")
        assert list(queue.leases(stop=child)) == []
        lease = queue.claim(stop=stop)
        assert lease.payload == "x"
        lease.acknowledge()


def test_coroutines_share_one_waiting_thread(queue: safepoint.Queue) -> None:
    async def consume(seen: list[int]) -> None:
        async for lease in queue:
            async with lease:
                seen.append(lease.payload)
                lease.result = "ok"

    async def main() -> list[int]:
        seen: list[int] = []
        with safepoint.shutdown() as stop:
            consumers = [asyncio.create_task(consume(seen)) for _ in range(20)]
            while len(seen) < 60:
                await asyncio.to_thread(queue.push, len(seen))
                assert sum(thread.name == "safepoint-claims" for thread in threading.enumerate()) <= 1
            stop.request("enough")
            await asyncio.wait_for(asyncio.gather(*consumers), PATIENCE)
        return seen

    seen = asyncio.run(main())
    assert len(seen) >= 60
    # What was claimed for those who had just gone is given back, and nobody waits for that.
    until = time.monotonic() + PATIENCE
    while queue.stats.leased:
        assert time.monotonic() < until
    assert queue.stats.done == len(seen)


def test_a_cancelled_coroutine_loses_no_item(queue: safepoint.Queue) -> None:
    async def main() -> None:
        rng = random.Random(7)
        for number in range(40):
            claiming = asyncio.create_task(queue.claim_async())
            await asyncio.sleep(0)
            await asyncio.to_thread(queue.push, number)
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0.0005)
            claiming.cancel()
            try:
                lease = await claiming
            except asyncio.CancelledError:
                continue
            assert lease is not None
            async with lease:
                pass
        # Whatever was given back is there for the next one, and none of it counts as an attempt.
        while queue.stats.done < 40:
            lease = await queue.claim_async(PATIENCE)
            assert lease is not None
            assert lease.attempt == 1
            async with lease:
                pass

    asyncio.run(main())


def test_a_coroutine_that_is_cancelled_in_the_block_gives_its_item_back(queue: safepoint.Queue) -> None:
    queue.push("x", key="a")

    async def work(inside: asyncio.Event) -> None:
        lease = await queue.claim_async()
        assert lease is not None
        async with lease:
            inside.set()
            await asyncio.Event().wait()

    async def main() -> None:
        inside = asyncio.Event()
        working = asyncio.create_task(work(inside))
        await inside.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    asyncio.run(main())
    with queue.claim() as lease:
        assert lease.attempt == 1


def test_a_timeout_of_a_coroutine(queue: safepoint.Queue) -> None:
    async def main() -> None:
        assert await queue.claim_async(0) is None
        assert await queue.claim_async(0.01) is None
        queue.push("x")
        lease = await queue.claim_async(0)
        assert lease is not None
        async with lease:
            pass

    asyncio.run(main())


def test_a_token_takes_a_lease_up_in_another_process(queue: safepoint.Queue) -> None:
    queue.push({"a": 1}, key="a")
    token = queue.claim().detach()
    program = "import sys, safepoint, pathlib\nwith safepoint.Queue(pathlib.Path(sys.argv[1])) as queue:\n"
    program += "    with queue.lease(sys.argv[2]) as lease: lease.result = [lease.payload, lease.attempt]"
    subprocess.run([sys.executable, "-c", program, queue.directory, token], check=True, timeout=PATIENCE)
    item = queue.item("a")
    assert item is not None
    assert item.result == [{"a": 1}, 1]
    with pytest.raises(safepoint.ClosedError):
        queue.lease(token)
    with pytest.raises(safepoint.InvalidError):
        queue.lease("no token")


def consume_all(queue: safepoint.Queue) -> list[int]:
    """What a process of a pool does: its queue came by pickle."""
    done = []
    for lease in queue.leases(timeout=0):
        with lease:
            done.append(lease.payload)
            lease.result = os.getpid()
    queue.close()
    return done


def test_processes_share_it_and_each_item_is_done_once(queue: safepoint.Queue) -> None:
    queue.push_many(range(600))
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        parts = pool.map(consume_all, [queue] * 3, chunksize=1)
    assert sorted(number for part in parts for number in part) == list(range(600))
    assert queue.stats.done == 600


def test_a_pickled_queue_is_the_same_with_its_settings(queue: safepoint.Queue) -> None:
    queue.push("x")
    again = pickle.loads(pickle.dumps(queue))
    assert again.directory == queue.directory
    assert again._settings == queue._settings
    with again.claim() as lease:
        assert lease.payload == "x"
    again.close()


def test_a_fork_is_refused_and_harms_nothing(queue: safepoint.Queue) -> None:
    queue.push("x")
    lease = queue.claim()
    with pytest.warns(DeprecationWarning) if sys.version_info >= (3, 12) else _nothing():
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            queue.push("y")
        except safepoint.ClosedError as error:
            code = 0 if "fork" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    lease.acknowledge()
    assert queue.stats == (0, 0, 0, 1, 0)


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


CONSUMER = """
import sys, pathlib, threading, safepoint

queue = safepoint.Queue(pathlib.Path(sys.argv[1]), lease=0.2, attempts=1000, retry_wait=0)

def consume():
    while queue.stats.done < int(sys.argv[2]):
        lease = queue.claim(0.02)
        if lease is None:
            continue
        try:
            lease.acknowledge(lease.payload)
        except safepoint.ClosedError:
            continue  # it took too long, and another has it
        sys.stdout.write(f"done {lease.key}\\n")
        sys.stdout.flush()

threads = [threading.Thread(target=consume) for _ in range(3)]
for thread in threads: thread.start()
for number in range(int(sys.argv[2])):
    queue.push(number, key=f"k{number}")
    sys.stdout.write(f"pushed k{number}\\n")
    sys.stdout.flush()
for thread in threads: thread.join()
queue.close()
"""


def read(consumer: subprocess.Popen[str], said: list[str]) -> None:
    assert consumer.stdout is not None
    said.extend(consumer.stdout)


def test_a_storm_of_kills_loses_nothing_and_acknowledges_nothing_twice(tmp_path: Path) -> None:
    number = 600
    place = tmp_path / "queue"
    rng = random.Random(11)
    pushed: set[str] = set()
    done: collections.Counter[str] = collections.Counter()
    kills = 0
    while True:
        consumers = [
            subprocess.Popen(
                [sys.executable, "-c", CONSUMER, str(place), str(number)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        said: list[str] = []
        readers = [threading.Thread(target=read, args=(consumer, said)) for consumer in consumers]
        for reader in readers:
            reader.start()
        if kills < 6:
            # By what they have said, for machines differ.
            enough = rng.randrange(1, 60)
            while len(said) < enough and any(consumer.poll() is None for consumer in consumers):
                time.sleep(0.002)
            for consumer in consumers:
                consumer.kill()
        codes = [consumer.wait(PATIENCE) for consumer in consumers]
        for reader in readers:
            reader.join(PATIENCE)
        kills += codes.count(-signal.SIGKILL)
        for line in said:
            what, key = line.split() if line.endswith("\n") and line.count(" ") == 1 else ("", "")
            if what == "pushed":
                pushed.add(key)
            elif what == "done":
                done[key] += 1
        with safepoint.Queue(place) as queue:
            states = {item.key: item.state for item in queue.items()}
        assert pushed <= states.keys(), "lost"
        assert all(states[key] == "done" for key in done), "undone"
        assert max(done.values(), default=0) <= 1, "twice"
        if codes == [0, 0]:
            break
    assert kills >= 6
    assert len(states) == number
    assert set(states.values()) == {"done"}


def test_ctrl_c_ends_a_waiting_claim_without_a_shutdown_block(start: Start) -> None:
    running = start(
        """
        import pathlib, safepoint
        queue = safepoint.Queue(pathlib.Path("queue"))
        try:
            print("waiting", flush=True)
            queue.claim()
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    running.until("waiting")
    running.send(signal.SIGINT)
    code, lines, errors = running.end()
    assert (code, lines[-1]) == (0, "interrupted"), errors


def test_a_signal_ends_the_loop_and_the_queue_is_whole(start: Start, tmp_path: Path) -> None:
    running = start(
        """
        import sys, safepoint
        queue = safepoint.Queue("mails")
        queue.push_many(range(100000))
        with safepoint.shutdown() as stop:
            for lease in queue:
                with lease:
                    done = lease.payload
                    print(done, flush=True)
        print("the last was", done)
        sys.exit(stop.exit_code)
        """
    )
    running.until("20")
    running.send(signal.SIGTERM)
    code, lines, errors = running.end()
    assert code == 143, errors
    with safepoint.Queue(tmp_path / ".safepoint" / "mails") as queue:
        done = int(lines[-1].removeprefix("the last was ")) + 1
        assert queue.stats == (100000 - done, 0, 0, done, 0)


def test_the_command_uses_the_same_queue(tmp_path: Path) -> None:
    def command(*arguments: str) -> Any:
        ran = subprocess.run(
            [sys.executable, "-m", "safepoint", "queue", *arguments, "--json"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            check=True,
            timeout=PATIENCE,
        )
        return json.loads(ran.stdout)

    assert command("push", "mails", '{"to": "ada"}', "plain")["new"] == 2
    with safepoint.Queue(tmp_path / ".safepoint" / "mails") as queue:
        with queue.claim() as lease:
            assert lease.payload == {"to": "ada"}
        with queue.claim() as lease:
            assert lease.payload == "plain"
        queue.push({"from": "Python"}, key="p")
    claimed = command("claim", "mails")
    assert (claimed["key"], claimed["payload"]) == ("p", {"from": "Python"})
    command("acknowledge", "mails", claimed["token"], "--result", '{"code": 250}')
    with safepoint.Queue(tmp_path / ".safepoint" / "mails") as queue:
        item = queue.item("p")
        assert item is not None
        assert item.result == {"code": 250}


def test_names_and_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for bad in ("a/b", "", ".", "-x"):
        with pytest.raises(safepoint.InvalidError):
            safepoint.Queue(bad)
    for settings_ in ({"attempts": 0}, {"lease": 0.001}, {"lease": -1}, {"retry_wait": -1}, {"read_ahead": -1}):
        with pytest.raises(safepoint.InvalidError):
            safepoint.Queue(tmp_path / "q", **settings_)
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(safepoint.Error):
        safepoint.Queue(tmp_path / "file")


def test_a_closed_queue_says_so(queue: safepoint.Queue) -> None:
    queue.push("x")
    lease = queue.claim()
    queue.close()
    queue.close()
    for ask in (lambda: queue.push("y"), lambda: queue.claim(0), lambda: queue.stats, lambda: lease.acknowledge()):
        with pytest.raises(safepoint.ClosedError):
            ask()


def test_dropping_queues_and_leases_leaks_nothing(tmp_path: Path) -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with safepoint.Queue(tmp_path / "q", attempts=10**9, retry_wait=0) as queue:
        queue.push("x")
        seen = []
        for _ in range(2):
            for _ in range(50):
                safepoint.Queue(tmp_path / "q")
            for _ in range(300):
                lease = queue.claim()
                del lease
            seen.append((threads(), descriptors()))
        # Threads of other tests may end meanwhile. A leak would be of fifty.
        (threads_before, descriptors_before), (threads_after, descriptors_after) = seen
        assert threads_after < threads_before + 10 and descriptors_after < descriptors_before + 10
        assert sum(queue.stats) == 1


def test_import_loads_nothing_heavy() -> None:
    heavy = ("asyncio", "numpy", "multiprocessing", "concurrent.futures")
    program = f"import sys, safepoint; safepoint.Queue; print(*(name for name in {heavy} if name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_items_are_listed_by_state_and_forgotten_when_they_are_old(queue: safepoint.Queue) -> None:
    queue.push_many(range(2500))
    assert [item.payload for item in queue.items("pending")] == list(range(2500))
    for lease in queue.claim_many(10):
        lease.acknowledge_later("ok")
    queue.sync()
    assert len(list(queue.items("done"))) == 10
    assert queue.forget_done(3600) == 0
    until = time.monotonic() + PATIENCE
    forgotten = 0
    # What was done in this very millisecond is not older than 0.
    while forgotten < 10 and time.monotonic() < until:
        forgotten += queue.forget_done(0)
    assert forgotten == 10
    assert queue.stats.done == 0
