"""Lightning: a training that is saved while it goes on, stops at a safepoint, and goes on where it was.

::

    import safepoint.lightning

    with safepoint.CheckpointStore("state/checkpoints") as store, safepoint.shutdown() as stop:
        checkpoints = safepoint.lightning.Checkpoints(store, every=safepoint.Schedule(seconds=60))
        trainer = lightning.Trainer(max_epochs=30, callbacks=[checkpoints])
        checkpoints.fit(trainer, model, loader)      # instead of trainer.fit(model, loader)

For the data to go on in the middle of an epoch, give the trainer a :class:`safepoint.torch.Loader`, or another loader
with ``state_dict()`` and ``load_state_dict()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ._checkpoint import CheckpointStore
from ._checkpointed import as_schedule
from ._generations import Checkpoint
from ._schedule import Schedule
from .torch import random_state, set_random_state

if TYPE_CHECKING:
    from ._shutdown import ShutdownToken

__all__ = ["Checkpoints"]

#: The key of what this adds to Lightning's own state.
_RANDOM = "safepoint.random"


class Checkpoints(Callback):  # type: ignore[misc]
    """Saves by schedule and at a stop, stops the trainer at the safepoint behind a batch, and resumes.

    The state is Lightning's own (model, optimizers, schedulers, loops, callbacks), with the random generators, and
    without pickle. Use it with one process; sharded strategies keep their own files.

    store
        Where to. Open it around the stop's block, so that it is there until the end.
    every
        So many batches, a ``timedelta``, or a :class:`safepoint.Schedule`; the default is what is best for a machine
        that fails once a day.
    background
        Whether the training goes on while a state is written.
    stop
        Whose stop ends the training; the default is the block ``with safepoint.shutdown()`` around it.
    allow_pickle
        For hyper-parameters and callbacks with values that cannot be saved plainly; loading them runs code of the file.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        every: int | timedelta | Schedule | None = None,
        name: str = "lightning",
        background: bool = True,
        stop: ShutdownToken | None = None,
        allow_pickle: bool = False,
    ) -> None:
        self.store = store
        self.schedule = as_schedule(every)
        self.name = name
        self.background = background
        self.stop = stop
        self.allow_pickle = allow_pickle
        #: Whether the state was saved at the stop.
        self._is_saved = False
        self._random: Mapping[str, Any] | None = None

    def fit(self, trainer: Trainer, model: LightningModule, *data: Any, **options: Any) -> Checkpoint | None:
        """``trainer.fit`` from the newest state that is whole; says from which.

        At the end the training is saved once more. Ask ``stop.requested`` whether it ended before its time.
        """
        found = self.store.latest(self.name, allow_pickle=self.allow_pickle)
        before = trainer.strategy.checkpoint_io
        trainer.strategy.checkpoint_io = _Redirected(before, None if found is None else found.state)
        try:
            trainer.fit(model, *data, **options, ckpt_path=None if found is None else _Redirected.PATH)
        except SIGTERMException:
            # Lightning leaves the program with code 0, as if all were done. A stop of ours ends here, and the program
            # goes on behind it.
            if not self._is_stopping(trainer):
                raise
        finally:
            trainer.strategy.checkpoint_io = before
        return found

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[_RANDOM] = random_state()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._random = checkpoint.get(_RANDOM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Behind the sanity check, which draws numbers.
        if self._random is not None:
            set_random_state(self._random)
            self._random = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._is_stopping(trainer):
            trainer.should_stop = True
            self._save(trainer, background=False)
            self._is_saved = True
        elif self.schedule.due(self.store if self.background else None):
            self._save(trainer, background=self.background)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._is_stopping(trainer):
            self._save(trainer, background=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # In the middle of a validation, say, which Lightning goes on with.
        if isinstance(exception, SIGTERMException) and self._is_stopping(trainer) and not self._is_saved:
            self._save(trainer, background=False)

    def _is_stopping(self, trainer: Trainer) -> bool:
        from ._shutdown import active

        stop = self.stop if self.stop is not None else active()
        return stop is not None and stop.requested

    def _save(self, trainer: Trainer, *, background: bool) -> None:
        # By Lightning's public way of saving, with the state taken on its way to a file.
        taken = _Redirected(trainer.strategy.checkpoint_io, None)
        trainer.strategy.checkpoint_io = taken
        try:
            trainer.save_checkpoint(_Redirected.PATH, weights_only=False)
        finally:
            trainer.strategy.checkpoint_io = taken.other
        save = self.store.save_in_background if background else self.store.save
        save(taken.state, name=self.name, step=trainer.global_step, allow_pickle=self.allow_pickle)


class _Redirected(CheckpointIO):  # type: ignore[misc]
    """What goes to one path and comes from it is in memory; all else goes its way."""

    PATH = "safepoint"

    def __init__(self, other: CheckpointIO, state: Any) -> None:
        self.other = other
        self.state = state

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if str(path) == self.PATH:
            self.state = checkpoint
        else:
            self.other.save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, *arguments: Any, **named: Any) -> Any:
        if str(path) == self.PATH:
            state, self.state = self.state, None
            return state
        return self.other.load_checkpoint(path, *arguments, **named)

    def remove_checkpoint(self, path: Any) -> None:
        self.other.remove_checkpoint(path)
