"""The Trainer of Hugging Face Transformers, with the real library and real signals."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy

pytest.importorskip("transformers")

import conftest  # noqa: E402
from conftest import Start  # noqa: E402

# On a busy machine it takes a minute to import these libraries alone.
conftest.PATIENCE = 600.0

PROGRAM = """
    import hashlib, os, sys, warnings
    warnings.simplefilter("ignore")
    import torch, transformers
    import safepoint, safepoint.huggingface

    transformers.set_seed(1); torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    class Data(torch.utils.data.Dataset):
        def __len__(self): return 64
        def __getitem__(self, i):
            ids = torch.tensor([(i * 7 + k) % 50 for k in range(8)])
            return {"input_ids": ids, "labels": ids}

    class Says(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **rest):
            print("step", state.global_step)

    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=50, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0))
    with safepoint.CheckpointStore(sys.argv[1], retention=3) as store, safepoint.shutdown(announce=False) as stop:
        checkpoints = safepoint.huggingface.Checkpoints(store, every=4)
        arguments = transformers.TrainingArguments(
            output_dir=sys.argv[1] + "-output", num_train_epochs=3, per_device_train_batch_size=4, save_strategy="no",
            logging_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, save_total_limit=2)
        trainer = transformers.Trainer(model, arguments, train_dataset=Data(), callbacks=[Says(), checkpoints])
        trainer.train(resume_from_checkpoint=checkpoints.resume(arguments.output_dir))
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    left = any(name.startswith("safepoint-") for name in os.listdir(arguments.output_dir))
    print(trainer.state.global_step, digest.hexdigest(), left)
    sys.exit(stop.exit_code)
"""


def test_a_training_goes_on_to_the_last_bit_after_signals_and_kills(tmp_path: Path, start: Start) -> None:
    code, lines, errors = start(PROGRAM, str(tmp_path / "whole")).end()
    assert code == 0, errors
    wanted = lines[-1]
    assert wanted.startswith("48 ") and wanted.endswith(" False")

    place = str(tmp_path / "broken")
    for way, at, expected in [(signal.SIGTERM, 6, 143), (signal.SIGKILL, 19, -9), (signal.SIGINT, 27, 130)]:
        program = start(PROGRAM, place)
        program.until(f"step {at}")
        program.send(way)
        code, lines, errors = program.end()
        assert code == expected, (way, lines[-3:], errors)
    # What a kill in the middle of the Trainer's own save leaves, newer than all else: it would be resumed from.
    partial = Path(place + "-output") / "checkpoint-47"
    partial.mkdir()
    (partial / "trainer_state.json").write_text("{}")
    program = start(PROGRAM, place)
    code, lines, errors = program.end()
    assert code == 0, errors
    assert lines[0] != "step 1" and lines[-1].split()[:2] == wanted.split()[:2]
