"""A checkpoint knows its own config: it is scored, changed and opened without naming one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmseg")

import runs
import torch

from pe_dense.report.run_report import report_evaluation
from pe_dense.results.store import load_records
from pe_dense.run.command_line import parse_options
from pe_dense.run.evaluation import evaluate
from pe_dense.run.opened_run import config_and_checkpoint, open_run
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.request import RunRequest
from pe_dense.run.saved_run import open_saved
from pe_dense.run.task import tell_without_protocol
from pe_dense.run.trained_run import trained_model

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/segmentation/linear_pe_t16_mini.py"
OLD = ROOT / "tests/golden/checkpoint_of_version_0_1.pth"
TOWER = "{'embed_dim': 16, 'num_heads': 2, 'mlp_hidden': 32, 'image_size': 64}"
TYPED = (
    "layers=[1]", "image_scale=(64,64)", "crop_size=(64,64)", "max_epochs=1", "val_interval=1",
    "warmup_iters=1", f"model.backbone.encoder_options={TOWER}",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(mini_root, tmp_path_factory):
    """A work dir, its data below a folder that may go, and the options that were typed."""
    folder = tmp_path_factory.mktemp("saved")
    shutil.copytree(mini_root / "ade", folder / "2024")
    words = [*TYPED, "data_root=2024"]  # text, though it looks like a number
    here = Path.cwd()
    os.chdir(folder)
    try:
        runs.train(CONFIG, options=parse_options(words), work_dir=folder / "run")
    finally:
        os.chdir(here)
    return folder, words


def record_of(config, folder, tmp_path, *words, **named):
    records = tmp_path / "records"
    options = parse_options(words)
    scores = runs.evaluate(config, folder / "run", records, options=options, **named)
    (record,) = load_records(records)
    shutil.rmtree(records)
    return scores, record


def test_a_work_dir_alone_scores_as_config_and_options_do(trained, tmp_path, monkeypatch):
    folder, words = trained
    monkeypatch.chdir(folder)
    typed, with_options = record_of(CONFIG, folder, tmp_path, *words)
    monkeypatch.chdir(tmp_path)  # elsewhere, without the config and with no option
    alone, record = record_of("", folder, tmp_path)
    named, with_config = record_of(CONFIG, folder, tmp_path)
    assert alone == typed == named
    for other in (with_options, with_config):
        assert record.protocol == other.protocol and ".mod-" in record.protocol.id
        assert record.command.split(" && ")[0] == other.command.split(" && ")[0]
        assert record.encoder == other.encoder and record.dataset == other.dataset


def test_the_model_needs_neither_config_nor_data(trained, tmp_path, monkeypatch):
    folder, _ = trained
    file = shutil.copy(folder / "run/epoch_1.pth", tmp_path)
    monkeypatch.chdir(tmp_path)
    (folder / "2024").rename(folder / "gone")
    try:
        run = open_saved(Path(file))
        with pytest.raises(ValueError, match="2024, the data that .* is not here; say where they"):
            open_saved(Path(file), with_data=True)
    finally:
        (folder / "gone").rename(folder / "2024")
    model = trained_model(run)
    assert run.cfg.image_scale == (64, 64) and run.cfg.data_root == "2024"
    assert model.backbone.encoder.embed_dim == 16 and not model.training
    weights = torch.load(file, weights_only=False)["state_dict"]
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_options_change_what_they_name_and_what_is_another_protocol_is_said(
    trained, tmp_path, capfd
):
    folder, _ = trained
    moved = shutil.copytree(folder / "2024", tmp_path / "moved")
    _, record = record_of("", folder, tmp_path, f"data_root={moved}")
    _, same = record_of("", folder, tmp_path, f"data_root={moved}", "image_scale=(64,64)")
    assert "not as trained" not in "".join(capfd.readouterr())
    _, other = record_of("", folder, tmp_path, f"data_root={moved}", "image_scale=(128,128)")
    (line,) = [x for x in "".join(capfd.readouterr()).splitlines() if "not as trained" in x]
    assert "image_scale [64, 64] -> [128, 128]" in line
    assert same.protocol == record.protocol != other.protocol
    # Trained at 64 and scored at 128 is not what was trained and scored at 128.
    whole = open_run(RunRequest("", options={"data_root": str(moved)}), folder / "run")
    proper = RunRequest(CONFIG, options=parse_options([*TYPED, f"data_root={moved}"]))
    _, template = proper.load()
    assert protocol_sha256(template, False, 4) == whole.facts.protocol_sha256
    template.image_scale = (128, 128)
    assert protocol_sha256(template, False, 4) != other.protocol.config_sha256


@pytest.mark.parametrize("config", ["", CONFIG])
@pytest.mark.parametrize(
    ("word", "setting"), [("max_epochs=2", "max_epochs is 1"), ("lr=1", "lr is 0.001")]
)
def test_what_only_training_has_cannot_be_changed(trained, config, word, setting):
    folder, _ = trained
    request = RunRequest(config, options=parse_options([f"data_root={folder / '2024'}", word]))
    with pytest.raises(ValueError, match=f"trained under other settings than these: {setting}"):
        open_run(request, folder / "run")


def test_a_config_that_would_train_otherwise_is_refused(trained, tmp_path):
    folder, _ = trained
    config = tmp_path / "own.py"
    head = f"_base_ = {str(ROOT / CONFIG)!r}\n"
    config.write_text(head + "weight_decay = 0.5\n")
    asked = RunRequest(str(config), options={"data_root": str(folder / "2024")})
    with pytest.raises(ValueError, match=r"weight_decay is 0.01 there and 0.5 in .*own.py"):
        open_run(asked, folder / "run")
    config.write_text(head + "model = dict(test_cfg=dict(mode='slide', stride=(32, 32)))\n")
    run = open_run(asked, folder / "run")  # only scored in another way, which is another protocol
    assert run.cfg.model.test_cfg.mode == "slide" != run.trained.model.test_cfg.mode
    other_task = RunRequest("configs/detection/dino_pe_t16_mini.py", options=asked.options)
    with pytest.raises(ValueError, match="trained with options that do not fit configs/detection"):
        open_run(other_task, folder / "run")


def visualize(*words):
    command = [sys.executable, str(ROOT / "tools/visualize.py"), *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip().splitlines()


def test_pictures_are_drawn_as_the_run_was_trained(trained, tmp_path, monkeypatch):
    """A config of 128 pixels, trained at 64 by an option: it was drawn at 128 without a word."""
    folder, _ = trained
    monkeypatch.chdir(folder)
    options = parse_options(["data_root=2024"])
    for config in ("", CONFIG):
        run = open_run(RunRequest(config, options=options), Path("run"))
        (resize,) = [t for t in run.cfg.test_dataloader.dataset.pipeline if t.type == "Resize"]
        assert resize.scale == (64, 64)
    code, told = visualize("segment", "run", "--images", "1", "--out", tmp_path / "alone")
    assert code == 0, told
    assert (tmp_path / "alone/index.txt").is_file()
    with pytest.raises(ValueError, match="was trained under other settings than these"):
        open_run(RunRequest(CONFIG, options=options), OLD)  # it has to be told its options


def test_a_run_without_protocol_is_scored_without_record(trained, tmp_path, capfd):
    folder, _ = trained
    content = torch.load(folder / "run/epoch_1.pth", weights_only=False)
    del content["meta"]["pe_dense"]["recipe"]["written"]["protocol"]
    torch.save(content, tmp_path / "epoch_1.pth")
    options = {"data_root": str(folder / "2024")}
    capfd.readouterr()
    done = []
    request = RunRequest("", options=options)
    scores = evaluate(request, tmp_path, tmp_path / "records", afterwards=done.append)
    (finished,) = done
    assert finished.protocol is None and report_evaluation(finished, "a command").is_file()
    told = "".join(capfd.readouterr())
    assert "has no protocol: its scores are printed and enter no record" in told
    assert "task: segmentation" in told and f"mIoU {scores['mIoU']:.4f}" in told
    assert not (tmp_path / "records").exists()


def test_half_a_protocol_and_an_unknown_task_are_refused_before_training(tmp_path):
    config = tmp_path / "own.py"
    config.write_text(f"_base_ = {str(ROOT / CONFIG)!r}\nprotocol = None\n")
    cfg, _ = RunRequest(str(config)).load()
    tell_without_protocol(cfg, "own.py")
    cfg.test_evaluator, cfg.model = dict(type="DumpResults"), dict(type="BaseModel")
    with pytest.raises(ValueError, match="neither its test_evaluator nor its model tells the task"):
        tell_without_protocol(cfg, "own.py")
    config.write_text(
        f"_base_ = {str(ROOT / CONFIG)!r}\nprotocol = dict(_delete_=True, id='own', version=1)\n"
    )
    with pytest.raises(ValueError, match="own.py lacks task, dataset, split, metric, higher_is_b"):
        runs.train(config, work_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_word_is_a_config_or_a_checkpoint(tmp_path):
    assert config_and_checkpoint(["configs/detection/absent"]) == ("configs/detection/absent", None)
    assert config_and_checkpoint(["own.py"]) == ("own.py", None)
    for word in ("work_dirs/absent", "a/epoch_3.pth", "whole.safetensors", str(tmp_path)):
        assert config_and_checkpoint([word]) == ("", Path(word))
    assert config_and_checkpoint(["a.py", "b"]) == ("a.py", Path("b"))
    with pytest.raises(ValueError, match="a config and a checkpoint at most"):
        config_and_checkpoint(["a.py", "b.pth", "c.pth"])


def test_an_earlier_version_s_checkpoint_asks_for_its_config():
    with pytest.raises(ValueError, match="does not know its config.*name the CONFIG before it"):
        open_saved(OLD)
    with pytest.raises(ValueError, match="does not know its config"):
        open_run(RunRequest(""), OLD)


def test_runs_go_on_with_a_recipe_and_without(trained, tmp_path, monkeypatch):
    folder, words = trained
    monkeypatch.chdir(folder)
    work = shutil.copytree(folder / "run", tmp_path / "run")
    asked = dict(options=parse_options(words), work_dir=work, resume=True)
    runs.train(CONFIG, **asked)
    content = torch.load(work / "epoch_1.pth", weights_only=False)
    assert content["meta"]["pe_dense"].pop("recipe")["options"]["max_epochs"] == 1
    torch.save(content, work / "epoch_1.pth")  # as an earlier version wrote it
    runs.train(CONFIG, **asked)
    with pytest.raises(ValueError, match="other settings"):
        runs.train(CONFIG, **(asked | dict(options=parse_options([*words, "lr=0.5"]))))
