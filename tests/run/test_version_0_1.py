"""What version 0.1 wrote and named goes on working."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmseg")

from runs import evaluate

import pe_dense
from pe_dense.results.store import load_records
from pe_dense.run.config import load_config, load_template

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/segmentation/linear_pe_t16_mini.py"
# Written by version 0.1 (commit 92cdabb) with the mini world of tests/conftest.py and these
# options; so were the scores below.
CHECKPOINT = ROOT / "tests/golden/checkpoint_of_version_0_1.pth"
OPTIONS = {
    "layers": [1], "image_scale": (128, 128), "crop_size": (128, 128), "max_epochs": 20,
    "val_interval": 20, "warmup_iters": 5, "lr": 3e-3,
    "model.backbone.encoder_options": {
        "embed_dim": 16, "num_heads": 2, "mlp_hidden": 32, "image_size": 64,
    },
}  # fmt: skip
SCORES = {
    "IoU/ground": 0.5175029408185616,
    "IoU/wall": 0.4767300290629173,
    "aAcc": 0.5127992887580858,
    "mAcc": 0.18299906305253363,
    "mIoU": 0.10163268810847388,
}
FINGERPRINT = "de5bdc5ccfc41354"


def test_a_checkpoint_scores_as_it_did(mini_root: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "data_root": str(mini_root / "ade")}
    records = tmp_path / "records"
    scores = evaluate(CONFIG, CHECKPOINT, records, options=options, work_dir=tmp_path / "logs")
    assert {name: scores[name] for name in SCORES} == pytest.approx(SCORES, abs=1e-9)
    (record,) = load_records(records)
    assert record.protocol.config_sha256.startswith("939ef3c5")
    assert record.protocol.id == "mini-segmentation.mod-939ef3c5"
    assert record.encoder.feature_fingerprint == FINGERPRINT
    assert record.code.commit == "92cdabb1b938e9f6c2c0f749f2f0956757b29327" and record.code.dirty
    assert record.command.startswith("python tools/train.py configs/segmentation/linear_pe_t16")


@pytest.mark.parametrize("old", [*sorted(pe_dense.MOVED), "pe_dense.benchmark.plan"])
def test_old_module_names_give_the_new_module_and_warn(old: str) -> None:
    new = pe_dense._new_name(old)
    code = (
        "import importlib, warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        f"    old = importlib.import_module({old!r})\n"
        f"new = importlib.import_module({new!r})\n"
        f"assert old is new and new.__spec__.name == {new!r}\n"
        f"assert {old + ' is now ' + new!r} in [str(w.message) for w in caught]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_config_with_old_imports_is_read(tmp_path: Path) -> None:
    file = tmp_path / "old.py"
    file.write_text(
        "custom_imports = dict(\n"
        "    imports=['pe_dense.runtime', 'pe_dense.encoders.backbone', 'pe_dense.necks',\n"
        "             'pe_dense.layer_decay', 'pe_dense.segmentation'],\n"
        "    allow_failed_imports=False)\n"
        "custom_hooks = [dict(type='ExactResumeHook')]\n"
    )
    with pytest.warns(FutureWarning, match="pe_dense.runtime is now pe_dense.run.resume"):
        sys.modules.pop("pe_dense.runtime", None)
        template = load_template(file)
    assert template.custom_hooks == [{"type": "ExactResumeHook"}]


def test_the_copy_that_mmengine_writes_into_a_work_dir_is_a_config(tmp_path: Path) -> None:
    cfg, _ = load_config(CONFIG)
    cfg.dump(tmp_path / "copy.py")
    assert load_config(tmp_path / "copy.py")[0].to_dict() == cfg.to_dict()
