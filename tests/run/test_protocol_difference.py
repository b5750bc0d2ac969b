"""`tools/protocols.py diff`: what differs between two protocols, by step, and nothing else."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from pe_dense.run.config import load_template
from pe_dense.run.protocol import protocol_sha256, stored_protocols
from pe_dense.run.protocol_difference import ABSENT, differences, find_protocol, lines_of
from pe_dense.run.protocol_steps import STEPS, step_of

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
protocol = dict(id="{id}", version=1, task="depth", dataset="nyu", split="test", metric="rmse",
                higher_is_better=False)
encoder, weights, data_root = "pe_spatial_t16_512", "random", "somewhere"
lr, weight_decay, crop_size = 1e-3, 1e-4, (416, 544)
batch_size, processes = 2, 8
model = dict(type="M", backbone=dict(type="DenseBackbone", encoder="$encoder", out_indices=[-1]),
             decode_head=dict(in_channels="$encoder.embed_dim",
                              losses=[dict(type="A", weight=1.0)]))
train_dataloader = dict(
    batch_size="$batch_size", num_workers=2,
    dataset=dict(type="D", data_root="$data_root", pipeline=[
        dict(type="LoadImage"), dict(type="RandomFlip", prob=0.5),
        dict(type="RandomCrop", crop_size="$crop_size")]))
test_dataloader = dict(dataset=dict(pipeline=[dict(type="Resize", scale="$crop_size")]))
val_dataloader = dict(dataset=dict(pipeline=[dict(type="Resize", scale="$crop_size")]))
optim_wrapper = dict(optimizer=dict(type="AdamW", lr="$lr", weight_decay="$weight_decay"))
param_scheduler = [dict(type="LinearLR", end=100)]
"""


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def template(tmp_path, name, *changes):
    """The config with some texts replaced, as `load_template` reads it."""
    text = CONFIG.replace("{id}", name)
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return load_template(path)


def compared(tmp_path, *changes):
    found = differences(template(tmp_path, "a"), template(tmp_path, "b", *changes))
    return [(row.step, row.setting, row.first, row.second) for row in found]


def test_free_parts_and_names_of_the_protocol_are_no_difference(tmp_path):
    changes = (
        ('"pe_spatial_t16_512"', '"dinov2_b14"'),
        ("somewhere", "else"),
        ("num_workers=2", "num_workers=9"),
    )
    assert compared(tmp_path, *changes) == []


@pytest.mark.parametrize(
    ("old", "new", "row"),
    [
        ("1e-3, 1e-4, (416", "1e-3, 1e-3, (416", ("optimiser", "weight_decay", 1e-4, 1e-3)),
        ("processes = 2, 8", "processes = 2, 1", ("batch", "processes", 8, 1)),
        ("(416, 544)", "(416, 540)", ("crop", "crop_size", [416, 544], [416, 540])),
        (
            "prob=0.5",
            "prob=0.0",
            ("flip", "train_dataloader.dataset.pipeline[RandomFlip].prob", 0.5, 0.0),
        ),
        (
            "weight=1.0",
            "weight=0.5",
            ("loss", "model.decode_head.losses[A].weight", 1.0, 0.5),
        ),
        ("[-1]", "[-2]", ("features", "model.backbone.out_indices", [-1], [-2])),
        ("end=100", "end=200", ("schedule", "param_scheduler[LinearLR].end", 100, 200)),
        ('"rmse"', '"abs_rel"', ("metric", "protocol.metric", "rmse", "abs_rel")),
        ("=1.0", "=1", ("loss", "model.decode_head.losses[A].weight", 1.0, 1)),
        (
            '"$encoder.embed_dim"',
            "768",
            ("head", "model.decode_head.in_channels", "encoder's embed_dim", 768),
        ),
        (
            'dict(type="LoadImage"), ',
            "",
            ("data", "train_dataloader.dataset.pipeline[LoadImage]", {"type": "LoadImage"}, ABSENT),
        ),
        (
            'lr="$lr", ',
            'lr="$lr", betas=(0.9, 0.99), ',
            ("optimiser", "optim_wrapper.optimizer.betas", ABSENT, [0.9, 0.99]),
        ),
    ],
)  # fmt: skip
def test_one_change_is_one_row_in_its_step(tmp_path, old, new, row):
    assert compared(tmp_path, (old, new)) == [row]


def test_the_same_value_under_a_name_and_in_place_is_no_difference(tmp_path):
    hook = 'custom_hooks = [dict(type="X", rate="$lr")]\n'
    first = template(tmp_path, "a", ("model = ", f"{hook}model = "))
    changes = ("model = ", f"{hook}model = "), ('lr="$lr"', "lr=1e-3")
    assert differences(first, template(tmp_path, "b", *changes)) == []


def test_a_value_in_place_of_a_name_is_told_where_it_stands(tmp_path):
    rows = compared(tmp_path, ('crop_size="$crop_size")]', "crop_size=(1, 2))]"))
    place = "train_dataloader.dataset.pipeline[RandomCrop].crop_size"
    assert rows == [("crop", place, [416, 544], [1, 2])]


def test_validation_that_differs_as_the_test_does_is_told_once(tmp_path):
    [row] = compared(tmp_path, ('type="Resize"', 'type="Resize", keep_ratio=True'))
    assert row[:2] == ("test", "test_dataloader.dataset.pipeline[Resize].keep_ratio")


def test_a_pipeline_that_is_copied_into_a_loader_is_told_once(tmp_path):
    """A variable of a config file is no setting: nothing reads it where it stands."""
    first = template(tmp_path, "a")
    changed = 'dict(type="Resize", scale=9)'
    second = template(
        tmp_path,
        "b",
        ("lr, weight_decay", f"test_pipeline = [{changed}]\nlr, weight_decay"),
        ('pipeline=[dict(type="Resize", scale="$crop_size")]', "pipeline=test_pipeline"),
    )
    settings = [row.setting for row in differences(first, second)]
    assert settings == ["test_dataloader.dataset.pipeline[Resize].scale"]


def test_the_order_of_transforms_counts(tmp_path):
    flip, crop = (
        'dict(type="RandomFlip", prob=0.5)',
        'dict(type="RandomCrop", crop_size="$crop_size")',
    )
    both = f"{flip},\n        {crop}"
    [row] = compared(tmp_path, (both, f"{crop},\n        {flip}"))
    assert row[1] == "train_dataloader.dataset.pipeline[order]"
    assert row[2] != row[3] and sorted(row[2]) == sorted(row[3])


def test_equal_hashes_are_no_difference_and_other_hashes_are_one():
    """The hash of a protocol is the reference of what counts as a difference."""
    configs = [
        row["config"]
        for key, row in stored_protocols().items()
        if key.startswith(("nyu-linear", "davis-")) and Path(row["config"]).is_file()
    ]
    templates = [load_template(config) for config in dict.fromkeys(configs)]
    assert len(templates) > 6
    for a, b in itertools.combinations_with_replacement(templates, 2):
        found = differences(a, b)
        # Metric and data set of the protocol are outside the hash.
        inside = [row for row in found if not row.setting.startswith("protocol.")]
        assert bool(inside) == (protocol_sha256(a) != protocol_sha256(b))
        assert "other" not in {row.step for row in found}
        back = [(row.setting, row.second, row.first) for row in found]
        assert back == [row[1:] for row in differences(b, a)]


def test_lines_have_steps_in_order_and_both_values(tmp_path):
    found = differences(
        template(tmp_path, "a"),
        template(tmp_path, "b", ("1e-3, 1e-4, (416, 544)", "1e-3, 1e-3, (416, 540)"),
                 ('dict(type="LoadImage"), ', "")),
    )  # fmt: skip
    assert lines_of(found) == [
        "data",
        "  train_dataloader.dataset.pipeline[LoadImage]  LoadImage() | -",
        "crop",
        "  crop_size  [416, 544] | [416, 540]",
        "optimiser",
        "  weight_decay  0.0001 | 0.001",
    ]
    assert lines_of([]) == []


def test_steps_are_known():
    assert step_of("warmup_end") == "schedule"
    for path, step in {
        "train_dataloader.dataset.pipeline[Resize].scale": "resize",
        "test_dataloader.dataset.pipeline[Resize].scale": "test",
        "test_dataloader.dataset.ann_file": "data",
        "model.roi_head.mask_head.in_channels": "head",
        "model.backbone.amp_dtype": "precision",
        "model.data_preprocessor.mean": "normalise",
        "test_evaluator.report": "selection",
        "test_evaluator.crop": "metric",
        "model.test_cfg.flip": "test",
        "something_new": "other",
    }.items():
        assert step_of(path) == step in STEPS, path


def test_eupe_differs_from_dinov3_in_nothing_else():
    """Its evaluation is DINOv3's code and config but for these numbers (EUPE @ f6cdf04)."""
    batch = [("batch", "batch_size", 2, 16), ("batch", "processes", 8, 1)]
    decay = ("optimiser", "weight_decay", 1e-4, 1e-3)
    for task, expected in {"ade20k": batch, "nyu": [decay, *batch]}.items():
        pair = [find_protocol(f"{task}-linear-{paper}")[1] for paper in ("dinov3", "eupe")]
        found = [row for row in differences(*pair) if row.setting != "encoder"]
        assert [(row.step, row.setting, row.first, row.second) for row in found] == expected


def test_names_lead_to_configs():
    config, found = find_protocol("nyu-linear-dinov3")
    assert config == "configs/depth/nyu_linear_dinov3.py"
    version = found.protocol.version
    assert find_protocol(f"nyu-linear-dinov3-v{version}")[0] == config
    assert find_protocol(config)[0] == config


def test_the_command_prints_both(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "tools")
    from protocols import main

    first, second = tmp_path / "a.py", tmp_path / "b.py"
    template(tmp_path, "a")
    template(tmp_path, "b", ("1e-3, 1e-4, (416", "1e-3, 1e-3, (416"))
    assert main(["diff", str(first), str(second)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"a-v1  {first}",
        f"b-v1  {second}",
        "optimiser",
        "  weight_decay  0.0001 | 0.001",
    ]
    assert main(["diff", str(first), str(first)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no setting differs"
    with pytest.raises(ValueError, match="defines no protocol"):
        main(["diff", str(first), "configs/_base_/runtime.py"])
    with pytest.raises(ValueError, match="configs/none.py does not exist"):
        main(["diff", str(first), "configs/none.py"])


def test_unknown_names_end_with_status_2_and_near_names():
    command = [sys.executable, ROOT / "tools/protocols.py", "diff", "nyu-linear-dinov4", "x"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "no protocol is called 'nyu-linear-dinov4'; did you mean nyu-linear-dinov3" in line
