"""Torch: tensors without a copy, and training that goes on to the last bit, with the real library."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.heavy

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")

import conftest  # noqa: E402
import safepoint  # noqa: E402
from conftest import Start  # noqa: E402
from safepoint import CheckpointReader, CheckpointStore  # noqa: E402
from safepoint._tree import Encoder  # noqa: E402

# On a busy machine it takes a minute to import these libraries alone.
conftest.PATIENCE = 600.0

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64]
OTHERS = [torch.bool, torch.complex64, torch.complex128]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with CheckpointStore(tmp_path / "checkpoints") as store:
        yield store


def through(store: CheckpointStore, state: Any, **how: Any) -> Any:
    store.save(state, **how)
    found = store.latest(**how)
    assert found is not None
    return found.state


def bits(tensor: Any) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS + OTHERS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 3)])
def test_tensors_of_every_type(store: CheckpointStore, dtype: Any, shape: Any) -> None:
    count = 1
    for side in shape:
        count *= side
    raw = torch.randint(0, 2 if dtype is torch.bool else 120, (max(count, 1) * dtype.itemsize,), dtype=torch.uint8)
    tensor = raw[: count * dtype.itemsize].view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)
    back = through(store, {"t": tensor})["t"]
    assert back.dtype == dtype and back.shape == tensor.shape and bits(back) == bits(tensor)
    into = {"t": torch.empty(shape, dtype=dtype)}
    assert store.latest(into=into).state["t"] is into["t"] and bits(into["t"]) == bits(tensor)  # type: ignore[union-attr]


def test_a_tensor_is_saved_from_where_it_is() -> None:
    tensor = torch.zeros(1 << 20, dtype=torch.bfloat16)
    (buffer,) = Encoder().encode({"t": tensor}).buffers
    assert buffer[3] == tensor.data_ptr() and buffer[1] == "bf16"
    (buffer,) = Encoder().encode({"t": tensor.reshape(1024, 1024).t()}).buffers
    assert buffer[3] == tensor.data_ptr()


def test_strides_are_kept_where_a_tensor_fills_its_memory(store: CheckpointStore) -> None:
    images = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    transposed = torch.randn(3, 4).t()
    gaps = torch.randn(10, 10)[::2, 1:5]
    expanded = torch.randn(3, 1).expand(3, 1000)
    state = {"images": images, "transposed": transposed, "gaps": gaps, "expanded": expanded}
    back = through(store, state)
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor), name
    assert back["images"].stride() == images.stride() and back["transposed"].stride() == transposed.stride()
    assert back["gaps"].is_contiguous() and back["expanded"].stride() == (1, 0)
    into = {name: torch.zeros_like(tensor) for name, tensor in state.items() if name != "expanded"}
    into["images"] = torch.zeros(2, 3, 4, 5)
    store.latest(into=into)
    for name, tensor in into.items():
        assert torch.equal(tensor, state[name]), name


def test_tied_weights_are_saved_once_and_tied_again(store: CheckpointStore) -> None:
    embedding = torch.nn.Embedding(1000, 64)
    head = torch.nn.Linear(64, 1000, bias=False)
    head.weight = embedding.weight
    model = torch.nn.ModuleDict({"embedding": embedding, "head": head})
    saved = store.save({"model": model.state_dict()})
    assert saved.payload_bytes < 1000 * 64 * 4 * 1.1
    back = store.latest().state["model"]  # type: ignore[union-attr]
    assert back["embedding.weight"].data_ptr() == back["head.weight"].data_ptr()
    assert back._metadata == model.state_dict()._metadata
    # Into a model whose weights are tied, and into one whose weights are not.
    with torch.no_grad():
        wanted = embedding.weight.clone()
        embedding.weight.zero_()
    store.latest(into={"model": model.state_dict()})
    assert torch.equal(head.weight, wanted)
    head.weight = torch.nn.Parameter(torch.zeros_like(wanted))
    store.latest(into={"model": model.state_dict()})
    assert torch.equal(head.weight, wanted) and torch.equal(embedding.weight, wanted)


def test_views_of_one_storage_are_saved_once_and_are_views_again(store: CheckpointStore) -> None:
    flat = torch.randn(1000)
    state = {
        "flat": flat,
        "first": flat[:500].view(50, 10),
        "cross": flat[250:750],
        "apart": flat[::7],
        "bits": flat.view(torch.int32),
    }
    saved = store.save(state)
    assert saved.payload_bytes < 4000 * 1.3
    back = store.latest().state  # type: ignore[union-attr]
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor) and back[name].shape == tensor.shape, name
    back["flat"][300] = 5.0
    assert back["first"].reshape(-1)[300] == 5.0 and back["cross"][50] == 5.0
    # Parts that do not overlap are each their own, and no more of a storage is saved than is used.
    saved = store.save({"a": flat[:10], "b": flat[500:510]})
    assert saved.payload_bytes < 500


def test_parameters_and_words_of_torch(store: CheckpointStore) -> None:
    state = {
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "fixed": torch.nn.Parameter(torch.randn(3), requires_grad=False),
        "wants": torch.randn(3, requires_grad=True),
        "size": torch.Size([1, 2]),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "generator": torch.Generator().manual_seed(5),
        "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
        "array": np.arange(3),
    }
    back = through(store, state)
    assert type(back["parameter"]) is torch.nn.Parameter and back["parameter"].requires_grad
    assert type(back["fixed"]) is torch.nn.Parameter and not back["fixed"].requires_grad
    assert back["wants"].requires_grad and back["wants"].is_leaf
    assert back["size"] == state["size"] and type(back["size"]) is torch.Size
    assert back["dtype"] is torch.bfloat16 and back["device"] == torch.device("cpu")
    assert torch.equal(torch.rand(3, generator=back["generator"]), torch.rand(3, generator=state["generator"]))
    assert torch.equal(back["conjugate"], state["conjugate"].resolve_conj())


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (torch.nn.Linear(2, 2), "is a torch.nn.*Linear"),
        (torch.randn(3).to_sparse(), "is a sparse"),
        (torch.empty(3, device="meta"), "is a tensor without values"),
        (torch.nn.Parameter, "is a"),
    ],
)
def test_what_torch_cannot_save_plainly_is_named(store: CheckpointStore, value: Any, why: str) -> None:
    with pytest.raises(safepoint.InvalidError, match=r'state\["x"\] ' + why) as caught:
        store.save({"x": value})
    if isinstance(value, torch.nn.Module):
        assert caught.value.hint == "save its `state_dict()`"


def test_jax_and_optax(store: CheckpointStore) -> None:
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    jnp = jax.numpy
    parameters = {"w": jnp.arange(6.0, dtype=jnp.bfloat16).reshape(2, 3), "b": jnp.zeros(3)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 10)))
    state = optimizer.init(parameters)
    gradients = jax.tree_util.tree_map(jnp.ones_like, parameters)
    _, state = optimizer.update(gradients, state, parameters)
    store_state = {"parameters": parameters, "optimizer": state}
    store.save(store_state)
    back = store.latest(like=state).state  # type: ignore[union-attr]
    assert jax.tree_util.tree_structure(back["optimizer"]) == jax.tree_util.tree_structure(state)
    for one, other in zip(jax.tree_util.tree_leaves(back), jax.tree_util.tree_leaves(store_state), strict=True):
        # Of jax again: numpy promotes types by other rules, and the training would go on as another one.
        assert isinstance(one, jax.Array) and one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    # It goes on.
    one, _ = optimizer.update(gradients, back["optimizer"], back["parameters"])
    other, _ = optimizer.update(gradients, state, parameters)
    assert all(map(jnp.array_equal, jax.tree_util.tree_leaves(one), jax.tree_util.tree_leaves(other)))
    with pytest.raises(safepoint.InvalidError, match=r'into\["parameters"\]\["w"\] cannot be filled: arrays of jax'):
        store.latest(into={"parameters": parameters}, like=state)
    with pytest.raises(safepoint.InvalidError, match="is a key of jax.random") as caught:
        store.save({"key": jax.random.key(0)})
    assert "key_data" in str(caught.value.hint)


class Noisy:
    """Items that draw from all generators."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> Any:
        import random

        return torch.tensor([index, random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_with_the_next_batch(workers: int) -> None:
    from safepoint.torch import Loader

    def make() -> Any:
        return Loader(Noisy(), 4, shuffle=True, seed=7, num_workers=workers)

    whole = make()
    before = torch.get_rng_state()
    epochs = [list(whole) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before), "the program's generator was touched"
    assert [len(epoch) for epoch in epochs] == [6, 6] == [len(whole)] * 2
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    assert torch.cat(epochs[0])[:, 0].sort().values.tolist() == list(range(23))

    first = make()
    seen = []
    for batch in first:
        seen.append(batch)
        if len(seen) == 3:
            break
    state = first.state_dict()
    assert (state["epoch"], state["position"]) == (0, 3)
    second = make()
    second.load_state_dict(state)
    seen += [batch for _ in second.epochs(2) for batch in second]
    assert all(map(torch.equal, seen, epochs[0] + epochs[1])) and len(seen) == 12


class Endless(torch.utils.data.IterableDataset):  # type: ignore[name-defined,misc]
    def __iter__(self) -> Any:
        return iter(())


def test_an_epoch_that_was_saved_behind_its_last_batch_ends_as_it_would_have() -> None:
    from safepoint.torch import Loader

    def make() -> Any:
        return Loader(list(range(4)), 2)

    first = make()
    for epoch in first.epochs(2):
        for number, _ in enumerate(first):
            if (epoch, number) == (0, 1):
                state = first.state_dict()
    second = make()
    second.load_state_dict(state)
    done = [(epoch, sum(1 for _ in second)) for epoch in second.epochs(3)]
    assert done == [(0, 0), (1, 2), (2, 2)]
    # Who counts batches, as Lightning does, never asks for the one behind the last.
    third = make()
    third.load_state_dict(state)
    from itertools import islice

    assert [len(list(islice(third, 2))) for _ in range(3)] == [2, 2, 2]
    assert (third.epoch, third.position) == (3, 2)


def test_a_loader_refuses_another_order() -> None:
    from safepoint.torch import Loader

    state = Loader(Noisy(), 4, shuffle=True, seed=7).state_dict()
    with pytest.raises(safepoint.IncompatibleError, match="`seed` was 7 and is 8"):
        Loader(Noisy(), 4, shuffle=True, seed=8).load_state_dict(state)
    with pytest.raises(safepoint.InvalidError, match="IterableDataset"):
        Loader(Endless())


def test_a_model_that_changed_is_named(store: CheckpointStore) -> None:
    from safepoint.torch import Training

    Training(model=torch.nn.Linear(2, 2)).save(store)
    with pytest.raises(safepoint.IncompatibleError, match=r'into\["parts"\]\["model"\]\["weight"\] cannot be filled'):
        Training(model=torch.nn.Linear(3, 2)).resume(store)
    with pytest.raises(safepoint.IncompatibleError, match="`bias` was saved, and is not there now"):
        Training(model=torch.nn.Linear(2, 2, bias=False)).resume(store)
    with pytest.raises(safepoint.IncompatibleError, match="part `model` was saved"):
        Training().resume(store)
    with pytest.raises(safepoint.InvalidError, match="`model` is a int"):
        Training(model=5)


TRAINING = """
    import hashlib, random, sys, time
    import numpy as np, torch
    import safepoint, safepoint.torch

    torch.manual_seed(1); random.seed(2); np.random.seed(3)
    torch.set_num_threads(1)

    class Data(torch.utils.data.Dataset):
        def __len__(self): return 64
        def __getitem__(self, i):
            x = torch.randn(16) + i / 64 + random.random() + np.random.rand()
            return x, x.sum() > 20

    model = torch.nn.Sequential(
        torch.nn.Linear(16, 512), torch.nn.BatchNorm1d(512), torch.nn.ReLU(), torch.nn.Dropout(0.3),
        torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    loader = safepoint.torch.Loader(Data(), 8, shuffle=True, seed=4, num_workers=int(sys.argv[2]))
    training = safepoint.torch.Training(model=model, optimizer=optimizer, scheduler=scheduler, loader=loader,
                                        progress={"losses": []})
    every = safepoint.Schedule(steps=3)
    with safepoint.CheckpointStore(sys.argv[1]) as store, safepoint.shutdown(announce=False) as stop:
        training.resume(store)
        print("goes on at", len(training.progress["losses"]))
        for epoch in loader.epochs(6):
            for x, y in stop.iter(loader):
                optimizer.zero_grad()
                loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(1), y.float())
                loss = loss + 0.01 * random.random() + 0.01 * np.random.rand()
                loss.backward()
                optimizer.step()
                scheduler.step()
                training.progress["losses"].append(loss.item())
                if every.due(store):
                    training.save_in_background(store)
                print("step", len(training.progress["losses"]))
        training.save(store)
    digest = hashlib.sha256(repr(training.progress["losses"]).encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    print(len(training.progress["losses"]), digest.hexdigest())
    sys.exit(stop.exit_code)
"""


def ended(lines: list[str]) -> list[str]:
    return lines[-1].split()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_training_goes_on_to_the_last_bit_after_signals_and_kills(tmp_path: Path, start: Start, workers: str) -> None:
    whole = start(TRAINING, str(tmp_path / "whole"), workers)
    code, lines, errors = whole.end()
    assert code == 0, errors
    wanted = ended(lines)
    assert wanted[0] == "48"

    place = str(tmp_path / "broken")
    for number, (way, at) in enumerate(
        [(signal.SIGTERM, 5), (signal.SIGKILL, 12), (signal.SIGINT, 20), (signal.SIGKILL, 26)]
    ):
        program = start(TRAINING, place, workers)
        program.until(f"step {at}")
        if way == signal.SIGKILL:
            # In the middle of a save, or of a step.
            time.sleep(0.002 * number)
        program.send(way)
        code, lines, errors = program.end()
        assert code == {signal.SIGTERM: 143, signal.SIGKILL: -9, signal.SIGINT: 130}[way], errors
        if way != signal.SIGKILL:
            found = CheckpointReader(place).latest("training")
            assert found is not None and len(found.state["progress"]["losses"]) == int(ended(lines)[0])
    code, lines, errors = start(TRAINING, place, workers).end()
    assert code == 0, errors
    assert ended(lines) == wanted
    assert not any(line == "goes on at 0" for line in lines)
