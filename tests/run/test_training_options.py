"""Best checkpoint, averaged weights, early stop: chosen on held-out images, exact after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmseg")

import runs
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pe_dense.results.comparison import may_be_ranked
from pe_dense.results.record import BEST_ON_HELD_OUT, TrainingInfo
from pe_dense.results.record_claims import _check_labels
from pe_dense.results.store import load_records
from pe_dense.run.averaged_weights import GrowingAverage, share_of_new
from pe_dense.run.checkpoint import checkpoint_file
from pe_dense.run.checkpoint_choice import labels_of, loop_of, rule_of
from pe_dense.run.config import load_config, load_template
from pe_dense.run.training_options import HELD_OUT, with_training_options
from pe_dense.run.validations import (
    FILE,
    Validations,
    best_place,
    read_validations,
    without_gain,
)

ROOT = Path(__file__).resolve().parents[2]
SEGMENTATION = ROOT / "configs/segmentation/linear_pe_t16_mini.py"
DETECTION = ROOT / "configs/detection/dino_pe_t16_mini.py"
NAN = float("nan")

# ---- what follows from scores --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "higher", "place", "waited"),
    [
        ([], True, None, 0),
        ([NAN], True, None, 1),
        ([0.1], True, 0, 0),
        ([0.1, 0.3, 0.3, 0.2], True, 1, 2),
        ([0.1, 0.3, 0.3, 0.05], False, 3, 0),
        ([NAN, -1.0, float("inf"), -2.0], True, 1, 2),
        ([NAN, 2.0, NAN, 1.0], False, 3, 0),
    ],
)
def test_the_best_and_the_wait(scores: list, higher: bool, place: int | None, waited: int) -> None:
    steps = [(10 * i, score) for i, score in enumerate(scores)]
    assert best_place(steps, higher) == place
    assert without_gain(steps, higher) == waited


def validations(*scores: float, patience: int | None = None, over: bool = True) -> Validations:
    steps = tuple((i, score) for i, score in enumerate(scores, start=1))
    return Validations("AP", True, "epoch", HELD_OUT, steps, True, patience, 4, over)


def test_the_file_comes_back_and_says_it_in_words(tmp_path: Path) -> None:
    assert read_validations(tmp_path) is None
    for found, words in (
        (validations(0.1, 0.3, 0.2, 0.1), "best of 4 validations on held-out training images (AP "
         "0.3000 at epoch 2 of 4)"),
        (validations(0.3, 0.2, patience=1), "ended at 2 of 4, 1 without gain"),
        (validations(0.3, over=False), "best of 1 validation on held-out training images (AP "
         "0.3000 at epoch 1; the training is at 1 of 4 and not over)"),
    ):  # fmt: skip
        found.write(tmp_path)
        assert read_validations(tmp_path) == found
        assert words in found.in_words()
    validations(NAN).write(tmp_path)
    assert read_validations(tmp_path).best_file() is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"metric": 1}', "null", '{"scores": [[1, "a"]]}']
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ValueError, match=r"validations\.json is damaged; name the checkpoint"):
        checkpoint_file(tmp_path)


def test_a_work_dir_stands_for_its_best_where_one_was_chosen(tmp_path: Path) -> None:
    for name in ("epoch_3.pth", "epoch_4.pth", "best_epoch_2.pth", "best_AP_epoch_1.pth"):
        (tmp_path / name).touch()
    assert checkpoint_file(tmp_path).name == "epoch_4.pth"
    validations(0.1, 0.3, 0.2, 0.1).write(tmp_path)
    assert checkpoint_file(tmp_path).name == "best_epoch_2.pth"
    assert checkpoint_file(tmp_path / "epoch_3.pth").name == "epoch_3.pth"
    (tmp_path / "best_epoch_2.pth").unlink()
    assert checkpoint_file(tmp_path).name == "epoch_4.pth"


# ---- what options make of a config ---------------------------------------------------------------


def options_on(cfg: dict, **options: Any) -> dict:
    base = dict(
        train_dataloader=dict(
            batch_size=4,
            dataset=dict(type="A", data_root="d", ann_file="train.json", pipeline=["train"]),
        ),
        test_dataloader=dict(
            batch_size=2, dataset=dict(type="A", data_root="d", ann_file="val.json", pipeline=["t"])
        ),
        test_evaluator=dict(type="CocoAP", ann_file="d/val.json"),
        train_cfg=dict(max_epochs=8),
        protocol=dict(metric="AP", higher_is_better=True),
        custom_hooks=[dict(type="ExactResumeHook")],
    )
    base |= dict(val_dataloader=base["test_dataloader"], val_evaluator=base["test_evaluator"])
    return with_training_options({**base, **cfg, **options}, "c.py")


def test_a_part_is_held_out_and_validated_on_as_it_is_scored() -> None:
    cfg = options_on({}, holdout_share=0.2, early_stop=3, ema=0.99)
    train, val = cfg["train_dataloader"]["dataset"], cfg["val_dataloader"]["dataset"]
    assert (train["part"], val["part"]) == ("train", "holdout")
    assert train["share"] == val["share"] == 0.2 and train["group"] == val["group"] == "found"
    assert train["dataset"]["pipeline"] == ["train"] and val["dataset"]["pipeline"] == ["t"]
    assert val["dataset"]["ann_file"] == "train.json" and val["dataset"]["test_mode"] is True
    assert cfg["val_evaluator"]["ann_file"] == "d/train.json"
    assert cfg["test_evaluator"]["ann_file"] == "d/val.json"
    assert cfg["val_dataloader"]["batch_size"] == 2
    assert [hook["type"] for hook in cfg["custom_hooks"]] == [
        "ExactResumeHook", "AveragedWeights", "KeepBest",
    ]  # fmt: skip
    assert cfg["custom_hooks"][-1]["patience"] == 3
    loop = loop_of(Config(cfg))
    assert loop["validates_on"] == "held-out" and loop["result"] == "best"


@pytest.mark.parametrize("off", [{}, dict(holdout_share=0, keep_best=True, ema=None)])
def test_all_is_switched_off_by_one_option(off: dict) -> None:
    cfg = options_on({}, **off)
    assert cfg["val_dataloader"]["dataset"]["ann_file"] == "val.json"
    assert len(cfg["custom_hooks"]) == 1 and "result" not in loop_of(Config(cfg))


def test_a_holdout_that_chooses_nothing() -> None:
    cfg = options_on({}, holdout_share=0.2, keep_best=False)
    assert len(cfg["custom_hooks"]) == 1
    assert "result" not in loop_of(Config(cfg))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(holdout_share=1.0), "holdout_share=1.0 is not between 0 and 1"),
        (dict(holdout_share=True), "holdout_share=True is not between"),
        (dict(holdout_share="a"), "holdout_share='a' is not between"),
        (dict(holdout_share=0.1, early_stop=0), "early_stop=0 is no number of validations"),
        (dict(ema=1), "ema=1 is not between 0 and 1"),
        (dict(early_stop=3), "early_stop ends a training by its validations, and these are on the"),
        (dict(ema=0.9, training_free=True), "ema does nothing in c.py, which trains nothing"),
        (dict(holdout_share=0.1, protocol={}), "no protocol whose metric could choose"),
        (dict(holdout_share=0.1, test_dataloader=None), "no plain set of images"),
        (dict(ema=0.9, custom_hooks=[dict(type="EMAHook")]), "averages weights already"),
    ],
)
def test_what_has_no_meaning_is_one_sentence(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        options_on({}, **options)


def test_probes_hold_out_and_choose_by_themselves() -> None:
    probe = ROOT / "configs/probing/segmentation_pe_t16_mini.py"
    plain, _ = load_config(probe)
    assert loop_of(plain).get("result") is None and rule_of(load_template(probe)) == ""
    with pytest.raises(ValueError, match="early_stop does nothing .* chooses by itself"):
        load_config(probe, options=dict(early_stop=2))


def test_the_base_for_own_data(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    bases = [str(SEGMENTATION), str(ROOT / "configs/_base_/own_training.py")]
    own.write_text(f"_base_ = {bases}\n")
    cfg, template = load_config(own)
    assert cfg.val_dataloader.dataset.part == "holdout"
    assert rule_of(template) == rule_of(cfg, "best") == BEST_ON_HELD_OUT
    off, template = load_config(own, options=dict(holdout_share=0))
    assert off.val_dataloader == off.test_dataloader and rule_of(template) == ""


# ---- labels and ranks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "done", "rule", "labels"),
    [
        ("best on held-out", 5, BEST_ON_HELD_OUT, []),
        ("best on held-out", 8, "", ["chosen-on-held-out"]),
        ("end of training", 8, BEST_ON_HELD_OUT, ["end-of-training"]),
        ("unfinished", 5, BEST_ON_HELD_OUT, ["unfinished-5-of-8-epochs"]),
    ],
)
def test_the_best_is_the_result_where_the_protocol_says_so(
    chosen: str, done: int, rule: str, labels: list
) -> None:
    assert labels_of(TrainingInfo(chosen, "epoch", done, 8, rule)) == labels


# ---- averaged weights ----------------------------------------------------------------------------


def test_the_average_is_the_sum_that_its_shares_say() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = GrowingAverage(model, decay=0.5)
    values, expected = [1.0, 4.0, -2.0, 0.5, 3.0], None
    for step, value in enumerate(values):
        model.weight.data.fill_(value)
        average.update_parameters(model)
        share = max(0.5, 9 / (10 + step))
        expected = value if expected is None else (1 - share) * expected + share * value
        assert average.module.weight.item() == pytest.approx(expected)
    assert share_of_new(10**9, 0.999) == pytest.approx(0.001)


# ---- through the tools ---------------------------------------------------------------------------


@HOOKS.register_module()
class KillOnce(Hook):
    """Ends the process as SIGKILL does, where the environment says: before the validation of the
    second epoch, whose checkpoint is written then, or in the first step of the third."""

    def before_val_epoch(self, runner: Any) -> None:
        self._die_in("validation", runner.epoch == 2)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._die_in("step", runner.epoch == 2)

    def _die_in(self, place: str, is_time: bool) -> None:
        if is_time and os.environ.get("KILL_IN") == place:
            os.kill(os.getpid(), signal.SIGKILL)


TOY = """
_base_ = {base!r}
custom_hooks = [dict(type="ExactResumeHook"), dict(type="KillOnce")]
data_root, max_epochs, val_interval = {data!r}, 5, 1
image_scale, crop_size, warmup_iters, lr = (64, 64), (64, 64), 2, 3e-3
holdout_share, early_stop, ema, layers = 0.3, 2, 0.6, [1]
"""


@pytest.fixture(scope="module")
def config(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "config.py"
    path.write_text(TOY.format(base=str(SEGMENTATION), data=str(mini_root / "ade")))
    return path


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    runs.train(config, work_dir=config.parent / "whole")
    return config.parent / "whole"


def tensors(file: Path) -> dict[str, dict]:
    content = torch.load(file, map_location="cpu", weights_only=False)
    return {key: content[key] for key in ("state_dict", "ema_state_dict")}


def assert_same(first: Path, second: Path) -> None:
    one, other = tensors(first), tensors(second)
    for part, state in one.items():
        assert state.keys() == other[part].keys()
        assert all(torch.equal(value, other[part][key]) for key, value in state.items())


@pytest.mark.slow
@pytest.mark.parametrize(("place", "known"), [("validation", 1), ("step", 2)])
def test_a_killed_run_chooses_what_an_uninterrupted_one_does(
    config: Path, whole: Path, tmp_path: Path, place: str, known: int
) -> None:
    run = tmp_path / "run"
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; import test_training_options, runs;"
        "from pathlib import Path; runs.train(sys.argv[3], work_dir=Path(sys.argv[4]))"
    )
    folders = [str(ROOT / "tests"), str(ROOT / "tests/run")]
    done = subprocess.run(
        [sys.executable, "-c", code, *folders, str(config), str(run)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KILL_IN": place, "OMP_NUM_THREADS": "1"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert (run / "epoch_2.pth").is_file() and len(read_validations(run).scores) == known
    runs.train(config, work_dir=run, resume=True)
    assert read_validations(run) == read_validations(whole)
    names = sorted(file.name for file in whole.glob("*.pth"))
    assert sorted(file.name for file in run.glob("*.pth")) == names
    for name in names:
        assert_same(whole / name, run / name)
    first = torch.load(run / names[0], map_location="cpu", weights_only=False)["state_dict"]
    last = torch.load(run / names[-1], map_location="cpu", weights_only=False)["state_dict"]
    assert any(not torch.equal(value, last[key]) for key, value in first.items())


def test_a_run_that_was_ended_stays_ended(config: Path, whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    before = read_validations(run)
    assert before.is_over
    runs.train(config, work_dir=run, resume=True)
    assert read_validations(run) == before
    assert {f.name for f in run.glob("*.pth")} == {f.name for f in whole.glob("*.pth")}


def test_the_best_is_scored_recorded_and_ranked(
    config: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    found = read_validations(whole)
    runs.evaluate(config, whole, records=tmp_path / "records")
    (record,) = load_records(tmp_path / "records")
    step, _ = found.best
    assert record.training == TrainingInfo("best on held-out", "epoch", step, 5, BEST_ON_HELD_OUT)
    assert may_be_ranked(record) and not list(_check_labels(record))
    assert "unfinished" not in record.protocol.id and "chosen-on" not in record.protocol.id
    last = max(whole.glob("epoch_*.pth"))
    runs.evaluate(config, last, records=tmp_path / "last")
    (record,) = load_records(tmp_path / "last")
    assert not may_be_ranked(record)
    assert record.protocol.id.endswith(("unfinished-" + last.stem[6:] + "-of-5-epochs",
                                        "end-of-training"))  # fmt: skip


def test_validation_is_on_images_that_are_not_trained_on(config: Path) -> None:
    from mmengine.registry import DATASETS, init_default_scope

    cfg, _ = load_config(config)
    init_default_scope("mmseg")
    import pe_dense.data.holdout
    import pe_dense.segmentation  # noqa: F401 (registers its parts)

    parts = [DATASETS.build(cfg[f"{name}_dataloader"].dataset) for name in ("train", "val", "test")]
    paths = [{part.get_data_info(i)["img_path"] for i in range(len(part))} for part in parts]
    assert [len(found) for found in paths] == [8, 4, 6]
    assert not paths[0] & paths[1] and not (paths[0] | paths[1]) & paths[2]


def test_boxes_are_held_out_of_the_file_that_is_trained_on(mini_root: Path) -> None:
    registry = pytest.importorskip("mmdet.registry").DATASETS
    from mmengine.registry import init_default_scope

    from pe_dense.run.config import check_data

    options = dict(data_root=str(mini_root / "coco"), holdout_share=0.3)
    cfg, _ = load_config(DETECTION, options=options)
    assert check_data(cfg, ("train", "val", "test")) == []  # no 'val-is-train'
    assert cfg.val_evaluator.ann_file.endswith("annotations/train.json")
    init_default_scope("mmdet")
    parts = [registry.build(cfg[f"{name}_dataloader"].dataset) for name in ("train", "val")]
    ids = [{part.get_data_info(i)["img_id"] for i in range(len(part))} for part in parts]
    assert [len(found) for found in ids] == [8, 4] and not ids[0] & ids[1]
