"""Only the end of a protocol's training is its score: all else is labelled, in id and record."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import runs
import torch
from mmengine.config import Config

from pe_dense.results.comparison import may_be_ranked
from pe_dense.results.evidence_file import load_content
from pe_dense.results.record import _PROTOCOL_ID, TrainingInfo
from pe_dense.results.store import evidence_path, load_records
from pe_dense.run.checkpoint_choice import labels_of, loop_of, training_info

ROOT = Path(__file__).resolve().parents[2]
A, B = (dict(dataset=dict(ann_file=name)) for name in ("a.txt", "b.txt"))
EPOCHS = dict(train_cfg=dict(max_epochs=8), val_dataloader=A, test_dataloader=A)
ITERS = dict(train_cfg=dict(max_iters=50), val_dataloader=A, test_dataloader=A)
HELD = EPOCHS | dict(test_dataloader=B)


def info(cfg, name="epoch_8.pth", loop=None, selection=None, **meta):
    protocol = {} if selection is None else dict(selection=selection)
    facts = SimpleNamespace(loop=loop)
    return training_info(Config(cfg | dict(protocol=protocol)), facts, Path(name), meta)


@pytest.mark.parametrize(
    ("cfg", "name", "meta", "chosen", "labels"),
    [
        (EPOCHS, "epoch_8.pth", dict(epoch=8, iter=240), "end of training", []),
        (EPOCHS, "epoch_8.pth", dict(epoch=3), "unfinished", ["unfinished-3-of-8-epochs"]),
        (ITERS, "iter_50.pth", dict(epoch=2, iter=50), "end of training", []),
        (ITERS, "iter_49.pth", dict(iter=49), "unfinished", ["unfinished-49-of-50-iters"]),
        (
            EPOCHS, "best_AP_epoch_5.pth", dict(epoch=5), "best on the scored split",
            ["unfinished-5-of-8-epochs", "chosen-on-the-scored-split"],
        ),
        (
            EPOCHS, "epoch_8.pth", dict(epoch=8, saved_as="best_AP_epoch_8.pth"),
            "best on the scored split", ["chosen-on-the-scored-split"],
        ),
        (
            HELD, "best_AP_epoch_8.pth", dict(epoch=8), "best on held-out", ["chosen-on-held-out"],
        ),
        (
            EPOCHS, "best_of_mine.pth", dict(epoch=8, saved_as="epoch_8.pth"), "end of training",
            [],
        ),
    ],
)  # fmt: skip
def test_how_a_checkpoint_came_about(cfg, name, meta, chosen, labels):
    found = info(cfg, name, pe_dense={}, **meta)
    assert found.chosen == chosen
    assert labels_of(found) == labels
    assert all(_PROTOCOL_ID.fullmatch(f"a.{label}") for label in labels)


def test_what_the_training_planned_counts_and_not_what_the_evaluation_says():
    loop = loop_of(Config(EPOCHS))
    found = info(dict(train_cfg=dict(max_epochs=3)), loop=loop, pe_dense={}, epoch=3)
    assert (found.done, found.planned, found.chosen) == (3, 8, "unfinished")
    # Also under a config that only evaluates what another one trained.
    found = info(dict(evaluation_only=True), loop=loop, pe_dense={}, epoch=3)
    assert labels_of(found) == ["unfinished-3-of-8-epochs"]


def test_what_was_not_trained_here_says_so():
    assert info(dict(evaluation_only=True), "released.pth") == TrainingInfo("not trained here")
    facts = SimpleNamespace(loop=None)
    cfg = Config({"protocol": {}})
    assert training_info(cfg, facts, None, {}) == TrainingInfo("nothing to train")
    # A checkpoint from before they knew, under a config that does not say either.
    assert info(dict(evaluation_only=True), pe_dense={}, epoch=3) is None
    assert labels_of(None) == []


def test_the_rule_of_the_protocol_reaches_the_record():
    rule = Config.fromfile(ROOT / "configs/depth/nyu_dpt_pe.py").protocol.selection
    found = info(ITERS, "best_rmse.pth", selection=rule, pe_dense={}, iter=50)
    assert (found.chosen, found.rule) == ("best on the scored split", "test-best (paper-compat)")


# ---- through the tools ---------------------------------------------------------------------------

CONFIG = """
_base_ = {base!r}
data_root, max_epochs, val_interval = {data!r}, 2, 1
image_scale, crop_size, warmup_iters = (128, 128), (128, 128), 1
default_hooks = dict(checkpoint=dict(save_best="seg/mIoU", max_keep_ckpts=-1))
custom_hooks = [dict(type="ExactResumeHook"), dict(type="EMAHook")]
"""


def tool(name, *arguments):
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def trained(mini_root, tmp_path_factory):
    """A config and the work dir of its run over two epochs, with EMA and the best by validation."""
    folder = tmp_path_factory.mktemp("runs")
    config = folder / "config.py"
    base = str(ROOT / "configs/segmentation/linear_pe_t16_mini.py")
    config.write_text(CONFIG.format(base=base, data=str(mini_root / "ade")))
    tool("train", config, "--work-dir", folder / "run")
    return config, folder / "run"


def record_of(config, checkpoint, tmp_path, **options):
    runs.evaluate(config, Path(checkpoint), records=tmp_path / "records", options=options)
    (record,) = load_records(tmp_path / "records")
    return record


def test_a_finished_training_is_the_protocol(trained, tmp_path):
    config, run = trained
    tool("test", config, run, "--records", tmp_path / "records")
    (record,) = load_records(tmp_path / "records")
    assert record.training == TrainingInfo("end of training", "epoch", 2, 2)
    assert "unfinished" not in record.protocol.id and may_be_ranked(record)
    content = load_content(evidence_path(record, tmp_path / "records"))
    assert content.sha256 == record.dataset.sha256 and len(content.items) == 6
    assert record.options == {}


@pytest.mark.parametrize("renamed", [False, True])
def test_the_best_is_labelled_whatever_it_is_called(trained, tmp_path, renamed):
    config, run = trained
    (best,) = run.glob("best_*.pth")
    if renamed:
        best = shutil.copy(best, tmp_path / "epoch_2.pth")
    record = record_of(config, best, tmp_path)
    assert record.training.chosen == "best on the scored split"
    assert record.protocol.id.endswith("chosen-on-the-scored-split")
    assert not may_be_ranked(record)


def test_an_earlier_epoch_is_labelled(trained, tmp_path):
    config, run = trained
    record = record_of(config, run / "epoch_1.pth", tmp_path)
    assert record.training == TrainingInfo("unfinished", "epoch", 1, 2)
    assert record.protocol.id.endswith(".unfinished-1-of-2-epochs")
    assert not may_be_ranked(record)


def test_a_shorter_plan_at_the_evaluation_is_refused(trained, tmp_path):
    config, run = trained
    with pytest.raises(ValueError, match="was trained under other settings than these"):
        record_of(config, run / "epoch_1.pth", tmp_path, max_epochs=1)


def test_a_run_that_was_killed_is_labelled(trained, tmp_path):
    config, _ = trained
    run = tmp_path / "killed"
    command = [sys.executable, str(ROOT / "tools/train.py"), str(config), "--work-dir", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [*command, "--cfg-options", "max_epochs=50"], cwd=ROOT, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (run / "epoch_1.pth").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    record = record_of(config, run, tmp_path, max_epochs=50)
    done = record.training.done
    assert record.training == TrainingInfo("unfinished", "epoch", done, 50) and done < 50
    assert record.protocol.id.endswith(f".unfinished-{done}-of-50-epochs")
    assert ".mod-" in record.protocol.id  # 50 epochs are not what the config says either


def test_a_start_from_another_checkpoint_is_another_protocol(trained, tmp_path):
    config, run = trained
    start = dict(load_from=str(run / "epoch_1.pth"), max_epochs=1)
    runs.train(config, work_dir=tmp_path / "tuned", options=start)
    record = record_of(config, tmp_path / "tuned", tmp_path, **start)
    assert record.training.chosen == "end of training"
    assert ".mod-" in record.protocol.id
    assert record.encoder.weights == "epoch_1.pth"
    # Other settings at the evaluation do not pass because something was fine-tuned.
    other = record_of(config, tmp_path / "tuned", tmp_path / "other", **start, crop_size=(64, 64))
    assert ".mod-" in other.protocol.id and other.protocol.id != record.protocol.id
    with pytest.raises(ValueError, match="was trained under other settings than these"):
        record_of(config, tmp_path / "tuned", tmp_path, **start, lr=1.0)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("annotations/validation", "validated on other labels or pictures"),
        ("annotations/training", "began with other training labels or pictures"),
        ("images/training", "began with other training labels or pictures"),
    ],
)
def test_a_run_does_not_go_on_over_other_data(trained, mini_root, tmp_path, file, words):
    config, run = trained
    run = shutil.copytree(run, tmp_path / "run")
    data = shutil.copytree(mini_root / "ade", tmp_path / "data")
    asked = dict(work_dir=run, options={"data_root": str(data)}, resume=True)
    runs.train(config, **asked)  # the same data elsewhere: all is done
    changed = min((data / file).iterdir())
    changed.write_bytes(changed.read_bytes() + b" ")
    with pytest.raises(ValueError, match=f"run holds a run that {words}"):
        runs.train(config, **asked)


def test_averaged_weights_are_those_that_are_scored(trained, tmp_path):
    config, run = trained
    content = torch.load(run / "epoch_2.pth", map_location="cpu", weights_only=False)
    names = [n for n in content["state_dict"] if content["state_dict"][n].is_floating_point()]
    plain = {n.removeprefix("module."): v for n, v in content["ema_state_dict"].items()}
    assert any(not torch.equal(content["state_dict"][n], plain[n]) for n in names)
    plain_hooks = config.read_text().replace(', dict(type="EMAHook")', "")
    other = tmp_path / "plain.py"
    other.write_text(plain_hooks)
    with pytest.raises(ValueError, match="was trained under other settings than these"):
        record_of(other, run, tmp_path)
