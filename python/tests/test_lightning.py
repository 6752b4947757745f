"""Lightning, with the real library and real signals."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy

pytest.importorskip("lightning")

import conftest  # noqa: E402
from conftest import Start  # noqa: E402

# On a busy machine it takes a minute to import these libraries alone.
conftest.PATIENCE = 600.0

PROGRAM = """
    import hashlib, logging, os, random, sys, warnings
    warnings.simplefilter("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    import torch, lightning
    import safepoint, safepoint.lightning, safepoint.torch

    torch.manual_seed(1); random.seed(2); torch.set_num_threads(1)

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"layers": 2})
            self.net = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Dropout(0.2), torch.nn.Linear(64, 1))
        def training_step(self, batch, index):
            x, y = batch
            return (self.net(x).squeeze(1) - y).pow(2).mean() + 0.01 * random.random() * self.net[0].weight.sum()
        def on_train_batch_end(self, *args):
            print("step", self.trainer.global_step)
        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), 1e-3)
            return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])]

    class Data(torch.utils.data.Dataset):
        def __len__(self): return 40
        def __getitem__(self, i):
            x = torch.randn(8) + i / 40
            return x, x.sum()

    loader = safepoint.torch.Loader(Data(), 4, shuffle=True, seed=4)
    with safepoint.CheckpointStore(sys.argv[1]) as store, safepoint.shutdown(announce=False) as stop:
        checkpoints = safepoint.lightning.Checkpoints(store, every=3)
        trainer = lightning.Trainer(max_epochs=5, callbacks=[checkpoints], accelerator="cpu", logger=False,
                                    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        model = Model()
        found = checkpoints.fit(trainer, model, loader)
        print("went on at", 0 if found is None else found.step)
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    print(trainer.global_step, trainer.current_epoch, digest.hexdigest())
    sys.exit(stop.exit_code)
"""


def test_a_training_goes_on_to_the_last_bit_after_signals_and_kills(tmp_path: Path, start: Start) -> None:
    code, lines, errors = start(PROGRAM, str(tmp_path / "whole")).end()
    assert code == 0, errors
    wanted = lines[-1]
    assert wanted.startswith("50 5 ")

    place = str(tmp_path / "broken")
    ways = [(signal.SIGTERM, 7, 143), (signal.SIGKILL, 15, -9), (signal.SIGINT, 23, 130), (signal.SIGKILL, 34, -9)]
    for way, at, expected in ways:
        program = start(PROGRAM, place)
        program.until(f"step {at}")
        program.send(way)
        code, lines, errors = program.end()
        assert code == expected, (way, lines[-3:], errors)
    code, lines, errors = start(PROGRAM, place).end()
    assert code == 0, errors
    assert lines[-2] != "went on at 0" and lines[-1] == wanted
