"""A checkpoint as a folder for the Hub: nothing is lost, nothing in it runs, others can read it."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

from export_case import REPO, untrained_run
from safetensors.torch import load_file, save_file

from pe_dense.encoders.contract import WeightsInfo
from pe_dense.export import publish
from pe_dense.export.own_folders import without_folders
from pe_dense.predict.model import load
from pe_dense.run.published_folder import CARD, CONFIG, WEIGHTS, from_json, to_json
from pe_dense.run.saved_run import open_saved

NAME = "owner/street"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The run, and its folder."""
    folder = tmp_path_factory.mktemp("publish")
    info = WeightsInfo("a.pt", "ab" * 32)
    run = untrained_run(
        "configs/segmentation/linear_pe_t16_mini.py", folder, weights=info, layers=[1]
    )
    target = publish.write_folder(run.file, folder / "hub", NAME, folder / "records")
    return run, target


def test_values_come_back_as_they_were():
    value = {"a": (1, [2.5, None, True]), "b": {3: float("inf"), "<x": ()}, "c": [{}], "d": -1}
    again = from_json(json.loads(json.dumps(to_json(value), allow_nan=False)))
    assert again == value and repr(again) == repr(value)
    with pytest.raises(ValueError, match="a set cannot be published"):
        to_json({"a": {1}})


def test_the_folder_is_the_checkpoint(published, tmp_path, monkeypatch):
    run, folder = published
    assert sorted(path.name for path in folder.iterdir()) == [CARD, CONFIG, WEIGHTS]
    monkeypatch.chdir(tmp_path)
    again = open_saved(folder)
    assert again.facts == without_folders(run.facts, run.file)
    for key, value in run.content["state_dict"].items():
        assert torch.equal(value, again.content["state_dict"][key]), key
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    found = [load(place)(picture).labels_HW for place in (run.file, folder)]
    np.testing.assert_array_equal(*found)


def test_the_hub_s_name_reads_the_same_folder(published, monkeypatch):
    run, folder = published
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: (asked.append((a, k)), folder)[1]
    )
    assert open_saved(f"hf://{NAME}@v1").facts.encoder == run.facts.encoder
    assert asked[0][0] == (NAME,) and asked[0][1]["revision"] == "v1"


def test_the_card_says_what_the_model_is(published):
    _, folder = published
    card = (folder / CARD).read_text()
    assert card.startswith("---\nlibrary_name: pe_dense\nlicense: apache-2.0\n")
    assert "pipeline_tag: image-segmentation" in card
    assert f'load("hf://{NAME}")' in card
    for words in ("mini-segmentation-v1", "pe_spatial_t16_512", "ab" * 32, "sky, wall", "None was"):
        assert words in card
    assert str(folder.parent) not in card + (folder / CONFIG).read_text()


def test_what_was_changed_on_the_way_is_noticed(published, tmp_path, monkeypatch):
    run, _ = published
    plain = publish.save_file

    def changed(state, *rest, **options):
        key = next(key for key, value in state.items() if value.is_floating_point())
        plain({**state, key: state[key] + 1}, *rest, **options)

    monkeypatch.setattr(publish, "save_file", changed)
    with pytest.raises(ValueError, match="does not come back from its folder as it was"):
        publish.write_folder(run.file, tmp_path / "hub", NAME, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_folder_of_the_machine_is_published(tmp_path):
    (tmp_path / "my_secret" / "street").mkdir(parents=True)
    root = tmp_path / "my_secret" / "street"
    config = "configs/segmentation/linear_pe_t16_mini.py"
    run = untrained_run(config, tmp_path, data_root=str(root))
    recipe = dict(run.facts.recipe, data={"found": f"{root}: images in {root}/a"})
    stored = dataclasses.replace(run.facts, recipe=dict(recipe, folder=str(tmp_path)))
    clean = without_folders(stored, run.file)
    assert clean.recipe["options"]["data_root"] == "street" and clean.recipe["folder"] == ""
    assert clean.recipe["data"]["found"] == "street: images in street/a"
    folder = publish.write_folder(run.file, tmp_path / "hub", NAME, tmp_path / "records")
    for file in (CONFIG, CARD):
        assert "my_secret" not in (folder / file).read_text()
    assert open_saved(folder).cfg.data_root == "street"


@pytest.mark.parametrize("text", ["/home/me/w.pt", "~/w.pt", "--a=/srv/x/w.pt", "C:\\me\\w.pt"])
def test_a_folder_that_cannot_be_taken_out_is_refused_by_its_place(published, text):
    run = published[0]
    facts = dataclasses.replace(run.facts, train_command=f"python tools/train.py a.py {text}")
    with pytest.raises(ValueError, match="names a folder of your machine in train_command"):
        without_folders(facts, run.file)
    typed = dataclasses.replace(run.facts, requested_weights=text.removeprefix("--a="))
    assert without_folders(typed, run.file).requested_weights == "w.pt"


class FakeHub:
    """Takes what `HfApi` would send."""

    refuses = None

    def __init__(self):
        self.calls = []

    def create_repo(self, name, **options):
        self.calls.append((name, options))
        if self.refuses is not None:
            raise self.refuses

    def upload_folder(self, repo_id, folder_path, allow_patterns):
        names = sorted(path.name for path in Path(folder_path).iterdir())
        self.calls.append((repo_id, [name for name in names if name in allow_patterns]))
        return f"https://huggingface.co/{repo_id}/tree/main"


def publish_with(hub, monkeypatch, *arguments):
    spec = importlib.util.spec_from_file_location("publish_tool", REPO / "tools/publish.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(sys, "argv", ["tools/publish.py", *map(str, arguments)])
    tool.main()


def test_the_tool_sends_three_files_and_nothing_else(published, tmp_path, monkeypatch, capsys):
    hub, folder = FakeHub(), tmp_path / "hub"
    folder.mkdir()
    (folder / "diary.txt").write_text("mine")
    arguments = [published[0].file, "--name", NAME, "--out", folder, "--records", tmp_path]
    publish_with(hub, monkeypatch, *arguments, "--overwrite", "--private")
    assert hub.calls == [
        (NAME, dict(private=True, exist_ok=True)), (NAME, sorted([CARD, CONFIG, WEIGHTS]))
    ]  # fmt: skip
    assert f"https://huggingface.co/{NAME}/tree/main" in capsys.readouterr().out
    hub.calls.clear()
    publish_with(hub, monkeypatch, *arguments, "--overwrite", "--dry-run")
    assert not hub.calls and "not sent" in capsys.readouterr().out


def test_a_hub_that_refuses_is_one_sentence(published, tmp_path, monkeypatch):
    hub = FakeHub()
    hub.refuses = OSError("you are not logged in\nmore")
    arguments = [published[0].file, "--name", NAME, "--out", tmp_path / "hub"]
    with pytest.raises(ValueError, match=r"did not take owner/street \(you are not logged in\)"):
        publish_with(hub, monkeypatch, *arguments)


def damage_config(folder):
    (folder / CONFIG).write_text('{"library": "pe_dense", "format": 1')


def later_version(folder):
    found = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(found | {"format": 2}))


def damage_weights(folder):
    (folder / WEIGHTS).write_bytes(b"no tensors")


def other_weights(folder):
    state = load_file(folder / WEIGHTS)
    state.pop("decode_head.conv_seg.bias")
    save_file(state, folder / WEIGHTS)


def foreign_config(folder):
    (folder / CONFIG).write_text('{"model_type": "vit"}')


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damage_config, "config.json is damaged"),
        (later_version, "has format 2; this version of pe_dense reads 1"),
        (damage_weights, "model.safetensors is damaged"),
        (other_weights, "missing: decode_head.conv_seg.bias"),
        (foreign_config, "was not written by tools/train.py"),
    ],
)
def test_a_folder_that_is_not_right_is_one_sentence(published, tmp_path, spoil, words):
    folder = tmp_path / "hub"
    shutil.copytree(published[1], folder)
    spoil(folder)
    with pytest.raises(ValueError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_folders_that_exist_are_kept_unless_asked(published):
    run, folder = published
    with pytest.raises(ValueError, match="exists; name a new folder, or add --overwrite"):
        publish.write_folder(run.file, folder, NAME, folder / "records")


def test_the_tool_refuses_a_name_without_an_owner(published, tmp_path):
    command = [sys.executable, str(REPO / "tools/publish.py"), str(published[0].file)]
    command += ["--name", "street", "--dry-run", "--out", str(tmp_path / "hub")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: --name street is not OWNER/NAME\n")
