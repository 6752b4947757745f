"""The store: durable, owned by one, told truly, and out of the way."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import safepoint
from conftest import Start
from safepoint import CheckpointReader, CheckpointStore, Retention, Schedule


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def wrong(value: str) -> Any:
    """What a type checker would not let through."""
    return value


def damage(place: Path, generation: int, name: str = "state") -> None:
    path = place / name / f"{generation:010}.ckpt"
    data = bytearray(path.read_bytes())
    data[130] ^= 1
    path.write_bytes(data)


def test_what_is_said_of_a_state_comes_back_with_it(place: Path) -> None:
    with CheckpointStore(place) as store:
        assert store.latest() is None
        weights = np.arange(12, dtype=np.float32).reshape(3, 4)
        saved = store.save(
            {"weights": weights}, step=7, metrics={"loss": np.float32(0.5)}, pinned=True, extra={"who": "me"}
        )
        assert (saved.generation, saved.payload_bytes > 48, saved.took > 0) == (1, True, True)
        found = store.latest()
        assert found is not None
        assert (found.step, found.metrics, found.pinned, found.extra) == (7, {"loss": 0.5}, True, {"who": "me"})
        assert (found.generation, found.name, found.run, found.skipped) == (1, "state", 1, ())
        assert abs(found.saved_at.timestamp() - time.time()) < 60
        assert np.array_equal(found.state["weights"], weights) and found.state["weights"].flags.writeable
        (row,) = store.list()
        assert (row.generation, row.step, row.metrics, row.error) == (1, 7, {"loss": 0.5}, None)
        (validated,) = store.validate()
        assert validated.is_whole and validated.payload_bytes == saved.payload_bytes
        assert store.names() == ["state"] and store.path == str(place)


def test_arrays_are_filled_where_they_are(place: Path) -> None:
    with CheckpointStore(place) as store:
        store.save({"model": {"w": np.arange(6.0), "f": np.asfortranarray(np.eye(2, 3))}, "step": 1})
        into = {"model": {"w": np.zeros(6), "f": np.zeros((2, 3))}}
        w, f = into["model"]["w"], into["model"]["f"]
        found = store.latest(into=into)
        assert found is not None and found.state["model"]["w"] is w and found.state["model"]["f"] is f
        assert w.tolist() == [0, 1, 2, 3, 4, 5] and np.array_equal(f, np.eye(2, 3))
        # A view that is not in one piece is filled by way of a copy.
        wide = np.zeros((6, 2))
        store.latest(into={"model": {"w": wide[:, 0]}})
        assert wide[:, 0].tolist() == [0, 1, 2, 3, 4, 5] and not wide[:, 1].any()
        assert store.load(1, into={"model": {"w": w}}).state["step"] == 1
        for wrong, why in [
            (
                {"model": {"w": np.zeros(5)}},
                r'into\["model"\]\["w"\] cannot be filled: it was saved as float64 of shape',
            ),
            ({"model": {"w": np.zeros(6, np.int64)}}, "and is int64"),
            ({"model": {"v": np.zeros(6)}}, r'into\["model"\]\["v"\] cannot be filled: the checkpoint has no array'),
            ({"w": np.zeros(6)}, "has no array there"),
        ]:
            with pytest.raises(safepoint.IncompatibleError, match=why):
                store.latest(into=wrong)
        fixed = np.zeros(6)
        fixed.flags.writeable = False
        with pytest.raises(safepoint.InvalidError, match="may not be written"):
            store.latest(into={"model": {"w": fixed}})


def test_a_damaged_generation_is_passed_over_and_told(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with CheckpointStore(place) as store:
        for step in range(3):
            store.save({"w": np.full(1000, float(step))}, step=step)
    damage(place, 3)
    heard: list[str] = []
    with CheckpointStore(place, on_notice=heard.append) as store:
        into = {"w": np.zeros(1000)}
        found = store.latest(into=into)
        assert found is not None and found.step == 1 and (into["w"] == 1).all()
        (skipped,) = found.skipped
        assert skipped.generation == 3 and skipped.quarantined and "quarantine" in skipped.quarantined
        assert len(heard) == 1 and "generation 3" in heard[0]
    damage(place, 2)
    damage(place, 1)
    with CheckpointStore(place) as store:
        with pytest.raises(safepoint.CorruptError, match="no generation of `state` can be loaded"):
            store.latest()
        assert [row.is_whole for row in store.validate()] == [False, False]
    with CheckpointStore(place) as store, caplog.at_level(logging.WARNING, "safepoint"):
        store.save({"w": np.zeros(1)})
        damaged = store.latest()
        assert damaged is not None


def test_settings_that_changed_are_named(place: Path) -> None:
    with CheckpointStore(place, fingerprint={"layers": 12, "seed": 1}) as store:
        store.save({"a": 1})
    changed = pytest.raises(safepoint.IncompatibleError, match="`layers` was 12 and is 24")
    with CheckpointStore(place, fingerprint={"layers": 24, "seed": 1}) as store, changed:
        store.latest()
    with CheckpointStore(place, fingerprint={"layers": 24, "seed": 1}, ignore=["layers"]) as store:
        assert store.latest() is not None
    heard: list[str] = []
    with CheckpointStore(place, fingerprint={}, accept_changes=True, on_notice=heard.append) as store:
        assert store.latest() is not None and "accepted" in heard[0]


def test_one_owns_the_directory_and_others_may_read(place: Path) -> None:
    with CheckpointStore(place) as store:
        store.save({"a": 1})
        with pytest.raises(safepoint.BusyError, match=f"process {os.getpid()}"):
            CheckpointStore(place)
        found = CheckpointReader(place).latest()
        assert found is not None and found.state == {"a": 1}
    with pytest.raises(safepoint.ClosedError):
        store.save({})
    store.close()
    CheckpointStore(place).close()
    with pytest.raises(safepoint.NotFoundError):
        CheckpointReader(place / "nowhere")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda store: store.save({}, name="../x"), "cannot name a state"),
        (lambda store: store.save({}, metrics={"loss": float("nan")}), "metric `loss` is nan"),
        (lambda store: store.save({}, metrics={"loss": "low"}), "metric `loss` is no number"),
        (lambda store: store.save({}, step=-1), "`step` cannot be -1"),
        (lambda store: store.save({}, extra={"x": object()}), "cannot be written as JSON"),
        (lambda store: store.load(99), "there is no generation 99"),
        (
            lambda store: CheckpointStore(store.path + "2", when_busy=wrong("later")),
            "when_busy cannot be `later`",
        ),
        (
            lambda store: CheckpointStore(store.path + "2", compression=wrong("zip")),
            "compression cannot be `zip`",
        ),
        (lambda store: CheckpointStore(store.path + "2", fingerprint={"a": object()}), "the fingerprint cannot be"),
        (lambda store: Schedule(), "a schedule needs"),
        (lambda store: Schedule(seconds=-1), "-1 seconds cannot be"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_touched(place: Path, call: Any, error: str) -> None:
    with CheckpointStore(place) as store:
        with pytest.raises(safepoint.Error, match=error):
            call(store)
        assert store.latest() is None


def test_retention(place: Path) -> None:
    with CheckpointStore(place, retention=Retention(newest=2, smallest=("loss", 1))) as store:
        for loss in [0.5, 0.1, 0.4, 0.3, 0.2]:
            store.save({}, metrics={"loss": loss})
        assert [row.generation for row in store.list()] == [2, 4, 5]
        assert store.fork(2, "better").generation == 1
        assert CheckpointReader(place).names() == ["better", "state"]
    with CheckpointStore(place, retention=2) as store:
        assert store.prune() == [2]
    with pytest.raises(safepoint.InvalidError, match="one metric"):
        CheckpointStore(place, retention=Retention(smallest=("a", 1), largest=("b", 1)))


def test_export_is_for_programs_without_us(place: Path, tmp_path: Path) -> None:
    import gzip
    import json

    with CheckpointStore(place) as store:
        store.save({"a": 1, "w": np.ones(3)})
        path = store.export(1, tmp_path)
    with gzip.open(path, "rt") as file:
        lines = [json.loads(line) for line in file]
    assert lines[0]["line"] == "metadata"


def test_a_small_state_goes_to_a_journal(place: Path) -> None:
    with CheckpointStore(place) as store:
        for step in range(5):
            store.save_small({"step": step}, step=step)
        found = store.latest()
        assert found is not None and found.state == {"step": 4}
    assert list((place / "state").glob("*.journal"))


def test_other_programs_states_are_read(place: Path) -> None:
    with CheckpointStore(place) as store:
        store.save(b"bytes of any meaning")
        found = store.latest()
        assert found is not None and found.state == b"bytes of any meaning"
        store.save(None)
        found = store.latest()
        assert found is not None and found.state is None


@pytest.mark.parametrize("copy", ["memory", "fork"])
def test_a_save_in_the_background_has_the_state_as_it_was(place: Path, copy: Any) -> None:
    with CheckpointStore(place, when_busy="wait") as store:
        weights = np.zeros(1 << 18)
        store.prepare_background(weights.nbytes)
        for step in range(5):
            weights[:] = step
            assert store.save_in_background({"w": weights}, step=step, copy=copy) == "accepted"
        weights[:] = -1
        saved = store.finish_background()
        assert saved is not None and saved.generation == 5 and not store.is_saving
        assert store.finish_background() is None
        for row in store.list():
            assert row.step is not None
            assert (store.load(row.generation).state["w"] == row.step).all()


def test_a_failure_in_the_background_is_raised_at_the_next_call(place: Path) -> None:
    store = CheckpointStore(place)
    store.save({"a": 1})
    # No file can be made any more; also not by root, who may write everywhere.
    (place / "state").rename(place / "gone")
    (place / "state").write_text("in the way")
    store.save_in_background({"a": 2})
    with pytest.raises(safepoint.IoError, match="`state` was not saved"):
        store.finish_background()
    store.save_in_background({"a": 3})
    while store.is_saving:
        time.sleep(0.001)
    with pytest.raises(safepoint.IoError):
        store.save_in_background({"a": 4})
    store.save_in_background({"a": 5})
    with pytest.raises(safepoint.IoError):
        store.close()


def test_a_failure_that_nobody_took_is_told(place: Path, recwarn: Any, capsys: Any) -> None:
    import sys

    told: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, told.append
    try:
        store = CheckpointStore(place)
        store.save({"a": 1})
        (place / "state").rename(place / "gone")
        (place / "state").write_text("in the way")
        store.save_in_background({"a": 2})
        del store
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert isinstance(told[0].exc_value, safepoint.IoError)


def test_the_interpreter_is_free_while_a_state_is_written(place: Path) -> None:
    with CheckpointStore(place, compression="never") as store:
        weights = np.random.default_rng(0).random(1 << 24)
        counted, done = 0, threading.Event()

        def count() -> None:
            nonlocal counted
            while not done.is_set():
                counted += 1

        other = threading.Thread(target=count)
        other.start()
        before = counted
        store.save({"w": weights})
        during = counted - before
        done.set()
        other.join()
        assert during > 1000, during


def test_a_buffer_is_lent_in_no_time_and_no_memory() -> None:
    from safepoint._tree import Encoder

    weights = np.zeros(1 << 27)  # 1 GiB, of which no page is there
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.thread_time()
    encoded = Encoder().encode({"w": weights})
    assert time.thread_time() - began < 0.05
    assert encoded.buffers[0][4] == 1 << 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_what_is_loaded_is_in_memory_once(place: Path) -> None:
    with CheckpointStore(place, compression="never") as store:
        size = 1 << 28
        store.save({"w": np.random.default_rng(0).integers(0, 255, size, np.uint8)})
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    # A process of its own, whose memory was never larger.
    import subprocess
    import sys

    code = f"""
import resource, numpy, safepoint
reader = safepoint.CheckpointReader({str(place)!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
state = reader.latest().state
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / {size})
"""
    grown = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown < 1.1, (grown, before)


def test_stores_leave_nothing_behind(place: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def once() -> None:
        store = CheckpointStore(place, retention=2)
        store.save_in_background({"w": np.zeros(10)})
        store.latest()
        store.close()

    for _ in range(20):
        once()
    gc.collect()
    before = (descriptors(), threading.active_count(), len(gc.get_objects()), len(os.listdir("/proc/self/task")))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(300):
        once()
    gc.collect()
    after = (descriptors(), threading.active_count(), len(gc.get_objects()), len(os.listdir("/proc/self/task")))
    # Threads of other tests may come and go meanwhile. A leak would be of three hundred.
    grown = [now - then for now, then in zip(after, before, strict=True)]
    assert grown[0] < 10 and grown[1] < 10 and grown[2] < 500 and grown[3] < 10, grown
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 20_000


def test_a_fork_leaves_the_store_to_its_parent(place: Path) -> None:
    with CheckpointStore(place) as store:
        store.save({"a": 1})
        store.save_in_background({"a": 2})
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            said = b"nothing"
            try:
                store.save({"a": 3})
            except safepoint.ClosedError as error:
                said = str(error).encode()
            store.close()
            del store
            gc.collect()
            os.write(writing, said)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert b"belongs to process" in os.read(reading, 1000)
        os.close(reading)
        os.close(writing)
        # It is still ours.
        with pytest.raises(safepoint.BusyError):
            CheckpointStore(place)
        store.save({"a": 4})


def test_a_fork_that_lives_on_keeps_nobody_from_the_directory(place: Path, start: Start) -> None:
    program = start(
        """
        import os, signal, sys, safepoint
        store = safepoint.CheckpointStore(sys.argv[1])
        store.save({"a": 1})
        if os.fork() == 0:
            print("forked")
            signal.pause()
        signal.pause()
        """,
        str(place),
    )
    program.until("forked")
    program.send(signal.SIGKILL)
    program.process.wait()
    assert program.others()
    with CheckpointStore(place) as store:
        found = store.latest()
        assert found is not None and found.state == {"a": 1}


SAVER = """
    import sys, numpy, safepoint
    store = safepoint.CheckpointStore(sys.argv[1], compression="never", retention=3)
    found = store.latest()
    n = found.step if found else 0
    print("goes on at", n)
    state = {"n": n, "w": numpy.full(1 << 20, float(n))}
    while True:
        n += 1
        state["n"] = n
        state["w"][:] = n
        store.save(state, step=n) if sys.argv[2] == "save" else store.save_in_background(state, step=n)
        if sys.argv[2] != "save":
            saved = store.finish_background()
        print("saved", n)
"""


@pytest.mark.parametrize("how", ["save", "background"])
def test_killed_in_the_middle_of_saves_nothing_acknowledged_is_lost(place: Path, start: Start, how: str) -> None:
    acknowledged = 0
    for round_ in range(6):
        program = start(SAVER, str(place), how)
        program.until(f"goes on at {acknowledged}")
        program.until(f"saved {acknowledged + 1}")
        acknowledged += 1
        # In the middle of whatever it is at by then.
        time.sleep(0.003 * (round_ + 1))
        program.send(signal.SIGKILL)
        _, lines, _ = program.end()
        acknowledged = max(int(line.split()[1]) for line in lines if line.startswith("saved"))
        found = CheckpointReader(place).latest()
        assert found is not None and found.step is not None
        # What was begun may be there as well, and then all of it.
        assert acknowledged <= found.step <= acknowledged + 1
        assert found.state["n"] == found.step and (found.state["w"] == found.step).all()
        acknowledged = found.step


def test_ctrl_c_in_the_middle_of_a_save_comes_when_it_is_done(place: Path, start: Start) -> None:
    program = start(
        """
        import sys, numpy, safepoint
        store = safepoint.CheckpointStore(sys.argv[1], compression="never")
        state = {"w": numpy.ones(1 << 24)}
        print("up")
        try:
            while True:
                store.save(state)
        except KeyboardInterrupt:
            store.close()
            print("interrupted", all(row.is_whole for row in safepoint.CheckpointReader(sys.argv[1]).validate()))
        """,
        str(place),
    )
    program.until("up")
    time.sleep(0.2)
    program.send(signal.SIGINT)
    code, lines, errors = program.end()
    assert (code, lines[-1]) == (0, "interrupted True"), errors


def test_what_is_in_the_background_at_the_end_of_the_program_is_seen_through(place: Path, start: Start) -> None:
    program = start(
        """
        import sys, numpy, safepoint
        store = safepoint.CheckpointStore(sys.argv[1])
        store.save_in_background({"w": numpy.ones(1 << 20)}, step=9)
        # Held by somebody who never lets go.
        import ctypes
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(store))
        """,
        str(place),
    )
    assert program.end()[0] == 0
    found = CheckpointReader(place).latest()
    assert found is not None and found.step == 9


def test_at_a_stop_a_save_is_done_in_the_time_that_is_left(place: Path) -> None:
    # The store outlives the block whose hooks save to it.
    with CheckpointStore(place) as store, safepoint.shutdown(signals=False) as stop:
        state = {"a": 0}

        @stop.hook("save")
        def save(seconds: float) -> None:
            assert store.save_now(state, within=seconds, step=5).is_given

        for state["a"] in stop.iter(range(100)):
            if state["a"] == 4:
                stop.request("enough")
    assert stop.report is not None and stop.report.is_clean, stop.report
    found = CheckpointReader(place).latest()
    assert found is not None and found.state == {"a": 4}


def test_schedules() -> None:
    every = Schedule(steps=3)
    assert [every.due() for _ in range(6)] == [False, False, True] * 2
    assert Schedule(seconds=0).due() and not Schedule(seconds=3600).due()
    assert Schedule(automatic=3600).interval == 10.0 and Schedule(automatic=3600).cost is None


def test_a_schedule_knows_when_the_store_is_busy(place: Path) -> None:
    with CheckpointStore(place) as store:
        automatic = Schedule(automatic=1.0)
        assert not automatic.due(store)
