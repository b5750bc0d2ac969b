"""A resumed training reads its checkpoint once, mapped, and keeps nothing of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mmengine")

import torch

from pe_dense.run.command_line import parse_options
from pe_dense.run.request import RunRequest
from pe_dense.run.training import train

CONFIG = "configs/alignment/spatial_align_t16_mini.py"


def test_once_and_mapped(mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    options = [
        f"data_root={mini_root / 'coco'}", "probes=[]", "crop_size=(64,64)", "total_batch=2",
        "batch_size=2", "total_steps=2", "warmup_steps=1", "checkpoint_interval=1",
        "probe_interval=2", "teachers.0.encoder_options={'depth':1}", "teachers.0.layer=0",
        "num_workers=0",
    ]  # fmt: skip
    request = RunRequest(CONFIG, options=parse_options(options), work_dir=tmp_path / "run")
    whole = train(request)
    (tmp_path / "run" / "iter_2.pth").unlink()
    calls = []
    load = torch.load

    def counted(file, *args, **kwargs):
        if str(file).endswith(".pth"):
            calls.append(kwargs)
        return load(file, *args, **kwargs)

    monkeypatch.setattr(torch, "load", counted)
    resumed = train(request, resume=True)
    assert [(c["mmap"], c["weights_only"], c["map_location"]) for c in calls] == [
        (True, True, "cpu")
    ]
    assert resumed.opened is None
    states = [runner.optim_wrapper.optimizer.state_dict()["state"] for runner in (whole, resumed)]
    for number, state in states[0].items():
        for key, value in state.items():
            other = states[1][number][key]
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other))
            if isinstance(other, torch.Tensor):
                assert other.untyped_storage().filename is None  # not in the file any more
    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
