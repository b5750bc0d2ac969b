"""A published protocol cannot change unnoticed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pe_dense.run import protocol as protocol_hashes
from pe_dense.run.config import load_template

ROOT = Path(__file__).resolve().parents[2]
KEY = "bccd-detection-scratch-v1"
BCCD = "detection/dino_pe_t16_bccd.py"  # its config


@pytest.fixture
def configs(tmp_path):
    """A copy of the configs, with the hashes of the originals accepted."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "configs/detection/atss_pe_t16_mini2.py").unlink()  # inherits what is edited here
    protocol_hashes.accept(tmp_path / "protocols.json", tmp_path / "configs")
    return tmp_path / "configs"


def changes(configs: Path) -> list[str]:
    stored = protocol_hashes.stored_protocols(configs.parent / "protocols.json")
    return protocol_hashes.find_changes(protocol_hashes.current_protocols(configs), stored)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_the_published_protocols_are_as_stored(monkeypatch):
    monkeypatch.chdir(ROOT)
    current = protocol_hashes.current_protocols()
    assert protocol_hashes.find_changes(current, protocol_hashes.stored_protocols()) == []


def test_published_records_follow_a_stored_protocol():
    stored = protocol_hashes.stored_protocols(ROOT / "benchmarks/protocols.json")
    for file in (ROOT / "benchmarks/records").rglob("*.json"):
        protocol = json.loads(file.read_text())["protocol"]
        key = f"{protocol['id']}-v{protocol['version']}"
        if ".mod-" not in key:
            assert stored[key]["sha256"] == protocol["config_sha256"], file


def test_nothing_changed_in_a_copy(configs):
    assert changes(configs) == []


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (BCCD, "lr = 4e-4", "lr = 5e-4"),
        (BCCD, "max_epochs = 32", "max_epochs = 33"),
        ("_base_/datasets/bccd.py", "image_scale = (320, 240)", "image_scale = (640, 480)"),
    ],
)
def test_changed_settings_are_caught(configs, file, old, new):
    edit(configs / file, old, new)
    found = [change for change in changes(configs) if KEY in change]
    assert len(found) == 1 and "raise protocol.version" in found[0]
    with pytest.raises(ValueError, match="raise protocol.version"):
        protocol_hashes.accept(configs.parent / "protocols.json", configs)


def test_a_change_in_a_base_is_caught_in_all_that_use_it(configs):
    edit(configs / "_base_/dino_small.py", "num_queries = 100", "num_queries = 90")
    assert len(changes(configs)) == 6


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("_base_/datasets/bccd.py", 'data_root = "data/bccd"', 'data_root = "/elsewhere"'),
        (BCCD, 'encoder = "pe_spatial_t16_512"', 'encoder = "pe_core_t16_384"'),
        (BCCD, 'weights = "random"', 'weights = "released"'),
        (BCCD, "Cost:     about 30 min", "Cost:     about 20 min"),
    ],
)
def test_what_is_no_setting_may_change(configs, file, old, new):
    edit(configs / file, old, new)
    assert changes(configs) == []


def test_a_new_version_is_accepted_and_the_old_one_kept(configs):
    file = configs / "detection/dino_pe_t16_bccd.py"
    edit(file, "lr = 4e-4", "lr = 5e-4")
    edit(file, "version=1", "version=2")
    found = [change for change in changes(configs) if "bccd-detection-scratch" in change]
    assert len(found) == 1 and "is new; publish it" in found[0]


def test_new_versions_join_the_old_ones(configs):
    shutil.copy(configs / "detection/atss_pe_t16_mini.py", configs / "detection/second.py")
    edit(configs / "detection/second.py", "version=1", "version=2")
    assert ["second.py" in change for change in changes(configs)] == [True]
    written = protocol_hashes.accept(configs.parent / "protocols.json", configs)
    assert written == ["mini-detection-v2"] and changes(configs) == []
    (configs / "detection/atss_pe_t16_mini.py").unlink()
    assert changes(configs) == []
    stored = protocol_hashes.stored_protocols(configs.parent / "protocols.json")
    assert "mini-detection-v1" in protocol_hashes.retired(
        protocol_hashes.current_protocols(configs), stored
    )


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ('metric="AP"', 'metric="AP50"', "metric"),
        ('split="val"', 'split="train"', "split"),
        ('metric="AP"', 'metric="AP", selection="test-best"', "rule"),
    ],
)
def test_a_protocol_goes_on_measuring_the_same(configs, old, new, fact):
    """Neither is a setting of the run, and both change what a number means."""
    edit(configs / "detection/atss_pe_t16_mini.py", old, new)
    (found,) = changes(configs)
    assert f"mini-detection-v1 has another {fact} than it had; raise protocol.version" in found
    with pytest.raises(ValueError, match="has another"):
        protocol_hashes.accept(configs.parent / "protocols.json", configs)


@pytest.mark.parametrize(
    ("key", "training", "chosen_on"),
    [
        ("mini-segmentation-v1", "8 epochs", ""),
        ("mini-depth-v1", "800 iters", ""),
        ("mini-segmentation-probe-v1", "3 epochs", "holdout"),
        ("mini-vos-layers-v1", "", "val"),
        ("mini-vos-v1", "", "select"),
        ("davis-dino-v1", "", ""),
        ("mini-mot-bytetrack-v1", None, ""),
    ],
)
def test_the_list_says_how_far_is_trained_and_what_is_chosen_on(key, training, chosen_on):
    stored = protocol_hashes.stored_protocols(ROOT / "benchmarks/protocols.json")[key]
    assert (stored.get("training"), stored["chosen_on"]) == (training, chosen_on)


def test_a_list_from_before_it_said_what_is_measured_is_completed(configs):
    file = configs.parent / "protocols.json"
    rows = {k: {n: row[n] for n in ("config", "sha256")} for k, row in read_json(file).items()}
    file.write_text(json.dumps(rows))
    assert all("does not say all of what it measures" in change for change in changes(configs))
    assert len(protocol_hashes.accept(file, configs)) == len(rows)
    assert changes(configs) == []


def read_json(file: Path) -> dict:
    return json.loads(file.read_text())


def test_two_configs_cannot_define_one_version(configs):
    shutil.copy(configs / "detection/atss_pe_t16_mini.py", configs / "detection/twin.py")
    with pytest.raises(ValueError, match=r"twin.py both define mini-detection-v1; give"):
        changes(configs)


@pytest.mark.parametrize("text", ["[]", "{", '{"a-v1": {"config": "x"}}'])
def test_a_broken_file_is_named(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ValueError, match=r"p.json is not a list of protocols; restore it"):
        protocol_hashes.stored_protocols(tmp_path / "p.json")


def test_a_direction_that_the_metric_does_not_have_is_refused(configs):
    file = configs / "depth/linear_pe_t16_mini.py"
    edit(file, "higher_is_better=False", "higher_is_better=True")
    template = load_template(file)
    with pytest.raises(ValueError, match=r"mini\.py: metric 'rmse' comes with .*lower is"):
        protocol_hashes.protocol_info(template, str(file), "0" * 64)


def test_the_tool_says_what_changed(configs):
    (configs.parent / "benchmarks").mkdir()
    shutil.move(configs.parent / "protocols.json", configs.parent / "benchmarks")

    def run(action):
        command = [sys.executable, ROOT / "tools/protocols.py", action]
        return subprocess.run(command, cwd=configs.parent, capture_output=True, text=True)

    assert run("check").returncode == 0
    edit(configs / "detection/atss_pe_t16_mini.py", "lr = 1e-3", "lr = 2e-3")
    for action in ("check", "accept"):
        done = run(action)
        assert done.returncode == 2 and done.stderr.startswith("error: configs/detection/atss")
        assert done.stderr.count("\n") == 1
