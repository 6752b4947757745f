"""Training with torch that goes on where it was, to the last bit.

::

    import safepoint.torch

    training = safepoint.torch.Training(model=model, optimizer=optimizer, scheduler=scheduler, loader=loader)
    with safepoint.CheckpointStore("state/checkpoints") as store, safepoint.shutdown() as stop:
        training.resume(store)
        for epoch in loader.epochs(30):
            for batch in stop.iter(loader):
                step(batch)
                if schedule.due(store):
                    training.save_in_background(store)
        training.save(store)

What makes two runs the same: the parameters and the optimizer's state; the state of all random generators; and the data
in the same order from the same place on, which is what :class:`Loader` is for.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.utils.data

from ._checkpoint import CheckpointStore
from ._errors import IncompatibleError, InvalidError
from ._generations import Checkpoint, Saved

if TYPE_CHECKING:
    from ._shutdown import ShutdownToken

__all__ = ["Loader", "Training", "random_state", "set_random_state"]

#: The name of a training's state unless told otherwise.
DEFAULT_NAME = "training"


def random_state() -> dict[str, Any]:
    """The state of the generators of Python, numpy (if it was imported) and torch, on all devices."""
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        state["numpy"] = sys.modules["numpy"].random.get_state()
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Sets the generators as :func:`random_state` found them."""
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "numpy" in state:
        import numpy

        numpy.random.set_state(state["numpy"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


class Training:
    """All that a training needs to go on: what is given here by name, the random generators, and ``progress``.

    Each part has ``state_dict()`` and ``load_state_dict()``: models, optimizers, schedulers, scalers, a
    :class:`Loader`, and classes of your own. Parameters are saved from where they are and loaded into where they are;
    tied ones are saved once.

    progress
        A dict for what else there is to remember, such as losses. It is changed in place by a load.
    random
        Whether the state of the random generators belongs to it.
    """

    def __init__(self, *, progress: dict[str, Any] | None = None, random: bool = True, **parts: Any) -> None:
        for name, part in parts.items():
            if not callable(getattr(part, "state_dict", None)) or not callable(getattr(part, "load_state_dict", None)):
                raise InvalidError(
                    f"`{name}` is a {type(part).__qualname__}, which has no `state_dict()` and `load_state_dict()`",
                    hint="put plain values into `progress`",
                )
        self.parts = parts
        self.progress = {} if progress is None else progress
        self.random = random

    def state_dict(self) -> dict[str, Any]:
        """The state as a tree. Parameters in it are the ones in use."""
        state: dict[str, Any] = {
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "progress": self.progress,
        }
        if self.random:
            state["random"] = random_state()
        return state

    def save(self, store: CheckpointStore, *, name: str = DEFAULT_NAME, **said: Any) -> Saved:
        """Saves, and returns when it is durable. ``said`` is what :meth:`safepoint.CheckpointStore.save` takes."""
        return store.save(self.state_dict(), name=name, **said)

    def save_in_background(
        self, store: CheckpointStore, *, name: str = DEFAULT_NAME, **said: Any
    ) -> Literal["accepted", "replaced", "skipped"]:
        """Saves while the training goes on, which is held up for one copy of the state."""
        return store.save_in_background(self.state_dict(), name=name, **said)

    def resume(
        self, store: CheckpointStore, *, name: str = DEFAULT_NAME, generation: int | None = None
    ) -> Checkpoint | None:
        """Goes on from the newest state that is whole, or from one generation; ``None`` if nothing was ever saved.

        Raises :class:`safepoint.IncompatibleError` when the model is not as it was; its parameters hold anything then.
        """
        modules = {name: part for name, part in self.parts.items() if isinstance(part, torch.nn.Module)}
        into = {"parts": {name: _tensors(part.state_dict()) for name, part in modules.items()}}
        if generation is None:
            found = store.latest(name, into=into)
            if found is None:
                return None
        else:
            found = store.load(generation, name, into=into)
        state = found.state
        _check_names(set(state["parts"]), set(self.parts), "part")
        for part_name, part in self.parts.items():
            held = state["parts"][part_name]
            if part_name in modules and _is_filled(part_name, held, part.state_dict()):
                continue
            part.load_state_dict(held)
        self.progress.clear()
        self.progress.update(state["progress"])
        # Last: loading may have drawn numbers.
        if self.random and "random" in state:
            set_random_state(state["random"])
        return found


def _tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: held for name, held in state.items() if isinstance(held, torch.Tensor)}


def _is_filled(part: str, held: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether filling its tensors was all that there was to load."""
    _check_names(set(held), set(now), f"`{part}`:")
    return all(isinstance(value, torch.Tensor) for value in held.values())


def _check_names(held: set[str], now: set[str], what: str) -> None:
    if held != now:
        name = min(held ^ now)
        which = "was saved, and is not there now" if name in held else "is there, and was not saved"
        raise IncompatibleError(
            f"{what} `{name}` {which}",
            hint="make the training as it was when it was saved, or begin under another name",
        )


class Loader:
    """A ``DataLoader`` that knows where it is: iterate it, save it with the rest, and it goes on with the next batch.

    The order of an epoch comes from ``seed`` and the epoch's number alone, so a resumed run does not read what it will
    not use. What the dataset draws at random for an item (an augmentation) comes from the item and the epoch, so it is
    the same in any worker and after a resume. The program's own random generators are not touched.

    ``position`` is the number of batches of this epoch that were given out: save when a batch is done with. ``epoch``
    counts from 0. Other options are those of ``DataLoader``: ``num_workers``, ``collate_fn``, ``pin_memory`` and so on.

    Not for an ``IterableDataset``, which has no places.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        **options: Any,
    ) -> None:
        if isinstance(dataset, torch.utils.data.IterableDataset):
            raise InvalidError(
                "an IterableDataset has no places to go on from", hint="use a dataset with `__getitem__` and `__len__`"
            )
        for option in ("sampler", "batch_sampler", "generator"):
            if option in options:
                raise InvalidError(f"`{option}` cannot be given: the order is what the loader remembers")
        if batch_size < 1:
            raise InvalidError(f"a batch cannot have {batch_size} items", hint="give 1 or more")
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.items = len(dataset)
        self.epoch = 0
        self.position = 0
        #: Whether the epoch that was begun by :meth:`epochs` has no batches left.
        self._is_over = False
        # A generator of its own: starting to iterate draws from it, which would change the program's.
        self._loader = torch.utils.data.DataLoader(
            _Seeded(dataset, seed),
            batch_sampler=_Order(self),
            generator=torch.Generator().manual_seed(seed),
            **options,
        )

    def __len__(self) -> int:
        """The batches of an epoch."""
        whole, rest = divmod(self.items, self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[Any]:
        """The batches of this epoch that were not given out yet. At their end the next epoch begins."""
        is_over, self._is_over = self._is_over, False
        if self.position >= len(self):
            # Whoever counted batches has not asked for one more.
            self._next_epoch()
            if is_over:
                return
        for batch in self._loader:
            # Before it is given out: who saves while at it has done with it.
            self.position += 1
            yield batch
        self._next_epoch()

    def _next_epoch(self) -> None:
        self.epoch += 1
        self.position = 0

    def epochs(self, total: int, *, stop: ShutdownToken | None = None) -> Iterator[int]:
        """The epochs that are left of ``total``, for ``for epoch in loader.epochs(30): for batch in loader: ...``.

        Ends when a stop was asked for (the default is the block ``with safepoint.shutdown()`` around it).
        """
        from ._shutdown import active

        stop = stop if stop is not None else active()
        while self.epoch < total and not (stop is not None and stop.requested):
            epoch = self.epoch
            # Saved behind the last batch, but before what the program does at the end of an epoch: no batch, but that.
            self._is_over = self.position >= len(self)
            yield epoch
            self._is_over = False
            if self.epoch == epoch and self.position >= len(self):
                self._next_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Where it is, for :meth:`load_state_dict`."""
        return {"epoch": self.epoch, "position": self.position, **self._order()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there.

        Raises :class:`safepoint.IncompatibleError` when the order would be another one.
        """
        for name, now in self._order().items():
            if state[name] != now:
                raise IncompatibleError(
                    f"the data came in another order: `{name}` was {state[name]!r} and is {now!r}",
                    hint="go back to the earlier setting, or begin anew",
                )
        self.epoch, self.position = state["epoch"], state["position"]

    def _order(self) -> dict[str, Any]:
        """What decides the order."""
        return {name: getattr(self, name) for name in ("items", "batch_size", "shuffle", "seed", "drop_last")}

    def indices(self, epoch: int) -> list[int]:
        """The order of an epoch."""
        if not self.shuffle:
            return list(range(self.items))
        generator = torch.Generator().manual_seed(_mixed(self.seed, epoch, 0))
        order: list[int] = torch.randperm(self.items, generator=generator).tolist()
        return order


class _Order:
    """The batches of an epoch from the loader's place on, as indices. Workers ask ahead of what is given out."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        loader = self.loader
        epoch, size = loader.epoch, loader.batch_size
        indices = loader.indices(epoch)
        for batch in range(loader.position, len(loader)):
            yield [(epoch, index) for index in indices[batch * size : (batch + 1) * size]]

    def __len__(self) -> int:
        return len(self.loader)


class _Seeded:
    """A dataset whose items draw the same random numbers wherever and whenever they are made."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        if hasattr(dataset, "__getitems__"):
            self.__getitems__: Callable[[Sequence[tuple[int, int]]], Any] = self._items

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        epoch, index = place
        return self._seeded(epoch, index, lambda: self.dataset[index])

    def _items(self, places: Sequence[tuple[int, int]]) -> Any:
        epoch, first = places[0]
        return self._seeded(epoch, first, lambda: self.dataset.__getitems__([index for _, index in places]))

    def _seeded(self, epoch: int, index: int, make: Callable[[], Any]) -> Any:
        # A worker's generators are its own; the program's are put back.
        is_worker = torch.utils.data.get_worker_info() is not None
        before = None if is_worker else _host_state()
        seed = _mixed(self.seed, epoch, index + 1)
        random.seed(seed)
        torch.default_generator.manual_seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(seed % (1 << 32))
        try:
            return make()
        finally:
            if before is not None:
                set_random_state(before)


def _host_state() -> dict[str, Any]:
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        state["numpy"] = sys.modules["numpy"].random.get_state()
    return state


def _mixed(seed: int, epoch: int, index: int) -> int:
    """One seed of 63 bits from three numbers, all of which matter (SplitMix64's finalizer)."""
    value = 0
    for part in (seed, epoch, index):
        value = (value ^ part) + 0x9E3779B97F4A7C15 & (1 << 64) - 1
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
        value = (value ^ value >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
        value ^= value >> 31
    return value >> 1
