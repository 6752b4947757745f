"""The Trainer of Hugging Face Transformers: durable checkpoints, a stop at a safepoint, a resume from what is whole.

::

    import safepoint.huggingface

    with safepoint.CheckpointStore("state/checkpoints") as store, safepoint.shutdown() as stop:
        checkpoints = safepoint.huggingface.Checkpoints(store)
        trainer = transformers.Trainer(model, arguments, callbacks=[checkpoints], ...)
        trainer.train(resume_from_checkpoint=checkpoints.resume(trainer.args.output_dir))

The Trainer writes a checkpoint as a folder of files in place, so one that was killed meanwhile leaves a part of one,
which it would resume from. Here each folder that it has finished is saved as a generation of the store: all of it,
checked by checksums, or nothing. A resume takes the newest generation that is whole.
"""

from __future__ import annotations

import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from ._checkpoint import CheckpointStore
from ._checkpointed import as_schedule
from ._errors import IncompatibleError
from ._schedule import Schedule

if TYPE_CHECKING:
    from ._shutdown import ShutdownToken

__all__ = ["Checkpoints"]


class Checkpoints(TrainerCallback):  # type: ignore[misc]
    """Keeps the Trainer's checkpoints in a store, and stops it at the safepoint behind a step.

    store
        Where to. Open it around the stop's block, so that it is there until the end.
    every
        When to save beside the Trainer's own ``save_strategy``: so many steps, a ``timedelta``, or a
        :class:`safepoint.Schedule`. The default is not to.
    stop
        Whose stop ends the training; the default is the block ``with safepoint.shutdown()`` around it.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        every: int | timedelta | Schedule | None = None,
        name: str = "huggingface",
        stop: ShutdownToken | None = None,
    ) -> None:
        self.store = store
        self.schedule = None if every is None else as_schedule(every)
        self.name = name
        self.stop = stop
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None

    def resume(self, output_dir: str | os.PathLike[str]) -> str | None:
        """The newest generation that is whole as a folder for ``resume_from_checkpoint``; ``None`` if there is none.
        The folder is removed when the training ends.
        """
        found = self.store.latest(self.name)
        if found is None:
            return None
        os.makedirs(output_dir, exist_ok=True)
        self._unpacked = tempfile.TemporaryDirectory(prefix="safepoint-", dir=output_dir)
        # The Trainer reads the step from the name.
        folder = Path(self._unpacked.name) / f"checkpoint-{found.step}"
        folder.mkdir()
        for name, held in found.state["files"].items():
            path = folder / name
            if folder.resolve() not in path.resolve().parents:
                raise IncompatibleError(f"generation {found.generation} names a file `{name}` outside its folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(held)
        return str(folder)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> Any:
        from ._shutdown import active

        stop = self.stop if self.stop is not None else active()
        if stop is not None and stop.requested:
            control.should_save = True
            control.should_training_stop = True
        elif self.schedule is not None and self.schedule.due():
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        files = {str(path.relative_to(folder)): _mapped(path) for path in sorted(folder.rglob("*")) if path.is_file()}
        last = state.log_history[-1] if state.log_history else {}
        metrics = {"loss": last["loss"]} if isinstance(last.get("loss"), float) else None
        self.store.save({"files": files}, name=self.name, step=state.global_step, metrics=metrics)

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if self._unpacked is not None:
            self._unpacked.cleanup()
            self._unpacked = None


def _mapped(path: Path) -> Any:
    """A file as an array over the kernel's own memory, which is not copied."""
    import numpy

    if path.stat().st_size == 0:
        return numpy.empty(0, numpy.uint8)
    return numpy.memmap(path, numpy.uint8, "r")
