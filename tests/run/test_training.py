"""How a run is described: its protocol hash, its command, its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("mmengine")

from pe_dense.encoders.weights import WeightsInfo
from pe_dense.run.checkpoint import RunFacts, load_checkpoint_safely
from pe_dense.run.config import load_config
from pe_dense.run.launch import command_with_launcher, processes
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.request import RunRequest
from pe_dense.run.resume import ExactResumeHook, continued

CONFIG = Path(__file__).resolve().parents[2] / "configs/detection/dino_pe_t16_mini.py"


def test_what_changes_scores_changes_the_hash() -> None:
    template = load_config(CONFIG)[1]
    hashes = [
        protocol_sha256(template),
        protocol_sha256(template, amp=True),
        protocol_sha256(template, total_batch=8),
        protocol_sha256(template, start_sha256="1" * 64),
        protocol_sha256(template, start_sha256="2" * 64),
    ]
    assert len(set(hashes)) == len(hashes)


def test_a_launcher_without_its_environment_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("WORLD_SIZE", "SLURM_NTASKS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert processes("none") == 1
    with pytest.raises(ValueError, match="torchrun --nproc-per-node N"):
        processes("pytorch")
    with pytest.raises(ValueError, match="srun"):
        processes("slurm")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert processes("pytorch") == 4


def test_the_command_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    argv = ["tools/train.py", "c.py", "--launcher", "pytorch"]
    assert command_with_launcher(argv, "pytorch", 2) == (
        "torchrun --nproc-per-node 2 tools/train.py c.py --launcher pytorch"
    )
    assert command_with_launcher(["tools/train.py", "c.py"], "none", 1).startswith("python tools")


def test_variants_of_a_recipe_get_their_own_folders() -> None:
    assert RunRequest("configs/a.py").default_work_dir() == Path("work_dirs/a")
    folders = {
        RunRequest("configs/a.py", encoder, weights, seed=seed).default_work_dir()
        for encoder in (None, "timm:vit/x")
        for weights in (None, "released", "hf://facebook/PE-Spatial-B16-512", "/data/w.pt")
        for seed in (None, 1)
    }
    assert len(folders) == 16
    assert all(folder.parent == Path("work_dirs") for folder in folders)


def facts_of(**changes: object) -> RunFacts:
    plain = dict(
        encoder="e", weights=None, protocol_sha256="1" * 64, seed=0, amp=False, world_size=1,
        start_from=None, train_command="", train_seconds=None, commit="unknown", dirty=False,
    )  # fmt: skip
    return RunFacts(**(plain | changes))


def test_resuming_keeps_what_the_run_said_of_itself(tmp_path: Path) -> None:
    begun = facts_of(
        train_command="python tools/train.py c.py", dirty=True, classes=["cat"],
        weights=WeightsInfo("w.pt", "0" * 64), start_from=WeightsInfo("s.pth", "2" * 64),
        own_annotations={"train": "3" * 64, "val": None}, train_seconds=7.0,
    )  # fmt: skip
    file = tmp_path / "epoch_3.pth"
    # Task folders keep entries of their own beside these.
    torch.save({"state_dict": {}, "meta": {"pe_dense": begun.to_meta() | {"alignment": 1}}}, file)
    again = dataclasses.replace(
        begun, train_command="other words", dirty=False, weights=None, train_seconds=None
    )
    content = load_checkpoint_safely(str(file))
    assert continued(file, content, again) == begun
    went_on = continued(file, content, dataclasses.replace(again, commit="b" * 40, dirty=True))
    assert went_on == dataclasses.replace(begun, went_on_at=["b" * 40], dirty=True)
    with pytest.raises(ValueError, match=r"other settings \(seed\).*python tools/train.py c.py"):
        continued(file, content, dataclasses.replace(again, seed=1))
    other = dataclasses.replace(again, start_from=None, amp=True)
    with pytest.raises(ValueError, match=r"other settings \(amp, start_from\)"):
        continued(file, content, other)


def test_another_number_of_processes_goes_on_and_another_total_does_not() -> None:
    begun = facts_of(world_size=8, total_batch=16, train_command="torchrun ...")
    content = {"meta": {"pe_dense": begun.to_meta()}}
    file = Path("work/epoch_3.pth")
    assert continued(file, content, dataclasses.replace(begun, world_size=2)) == begun
    words = "work holds a run of 16 images a step, and this one would have 4; .* torchrun"
    with pytest.raises(ValueError, match=words):
        continued(file, content, dataclasses.replace(begun, world_size=2, total_batch=4))


def test_a_checkpoint_of_another_program_is_not_continued(tmp_path: Path) -> None:
    file = tmp_path / "epoch_3.pth"
    torch.save({"state_dict": {}, "meta": {"epoch": 3}}, file)
    with pytest.raises(ValueError, match="epoch_3.pth was not written by tools/train.py"):
        continued(file, load_checkpoint_safely(str(file)), facts_of())


@pytest.mark.parametrize("weights", ["w.pt", {"source": "w.pt"}, {"notes": None}])
def test_weights_that_no_training_wrote_are_one_sentence(weights: object) -> None:
    meta = facts_of().to_meta() | {"weights": weights}
    with pytest.raises(ValueError, match="x.pth was not written by tools/train.py"):
        RunFacts.from_meta(meta, "x.pth")


def test_checkpoints_name_the_weights_and_nothing_that_is_merely_called_so() -> None:
    class Encoder(torch.nn.Module):
        def weights_info(self) -> WeightsInfo:  # timm's is a method
            raise AssertionError("not asked")

    class Backbone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Encoder()
            self.weights_info = WeightsInfo("w.pt", "1" * 64)

    checkpoint: dict = {"meta": {}}
    hook = ExactResumeHook(facts_of(seed=3).to_meta())
    hook.before_save_checkpoint(SimpleNamespace(model=Backbone()), checkpoint)
    found = RunFacts.from_meta(checkpoint["meta"]["pe_dense"], "x.pth")
    assert found.weights == WeightsInfo("w.pt", "1" * 64)
    assert found.seed == 3 and found.train_seconds > 0
