"""Options that make runs faster: what they turn on, what records say, results as without them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from runs import evaluate
from torch import nn

from pe_dense.encoders import compiled_block
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.results.store import load_records
from pe_dense.run import command_line, speed, training
from pe_dense.run.request import RunRequest

ROOT = Path(__file__).resolve().parents[2]
VIDEOS = "configs/tracking/mini_v1.py"


@pytest.fixture
def backend(monkeypatch):
    """Traces blocks as any backend does, and then runs them eagerly."""
    torch.compiler.reset()
    compiled_block.compiled_block.cache_clear()
    monkeypatch.setattr(compiled_block, "BACKEND", "aot_eager")
    yield
    torch.compiler.reset()
    compiled_block.compiled_block.cache_clear()
    torch.set_float32_matmul_precision("highest")


def tower() -> PerceptionEncoder:
    return PerceptionEncoder(
        patch_size=4,
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_hidden=64,
        image_size=24,
        layer_scale=None,
        cls_token=True,
    )


def test_blocks_of_every_tower_are_compiled_only_when_asked() -> None:
    model = nn.ModuleDict({"student": tower(), "teacher": nn.Sequential(tower())})
    speed.use_speed_options((), model)
    modes = [block.compile_mode for t in (model["student"], model["teacher"][0])
             for block in t.blocks]  # fmt: skip
    assert modes == [None] * 4
    speed.use_speed_options(("compile",), model)
    for found in (model["student"], model["teacher"][0]):
        assert [block.compile_mode for block in found.blocks] == ["default"] * 2


def test_what_does_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="--compile: no encoder of this model has blocks"):
        speed.use_speed_options(("compile",), nn.Linear(2, 2))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="--tf32 needs a CUDA device"):
            speed.use_speed_options(("tf32",), tower())


def test_tf32_is_of_one_run(monkeypatch, backend) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    speed.use_speed_options(("tf32",), tower())
    assert torch.get_float32_matmul_precision() == "high"
    speed.use_speed_options((), tower())
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("amp", "trained", "scored", "expected"),
    [
        (False, None, (), {}),
        (True, [], (), {"amp": "bfloat16"}),
        (False, ["compile"], ("compile",), {"compile": "encoder blocks"}),
        (False, ["compile"], ("tf32",), {"compile": "encoder blocks, in training",
                                         "tf32": "float32 products, in scoring"}),
        (False, None, ("compile",), {"compile": "encoder blocks"}),
    ],
)  # fmt: skip
def test_records_say_where_an_option_was_on(amp, trained, scored, expected) -> None:
    assert speed.options_in_words(amp, trained, scored) == expected


def test_the_tools_have_every_option() -> None:
    parser = argparse.ArgumentParser()
    command_line.add_run_options(parser)
    assert command_line.speed_options(parser.parse_args([])) == ()
    on = parser.parse_args([f"--{name}" for name in speed.OPTIONS])
    assert command_line.speed_options(on) == tuple(speed.OPTIONS)


def test_checkpoints_remember_how_they_were_trained() -> None:
    template = Config(dict(encoder="a", model={}, protocol={}))
    cfg = Config(dict(encoder="a", weights="random", randomness=dict(seed=0)))
    request = RunRequest("a.py", argv=["tools/train.py", "a.py"], speed=("compile",))
    facts = training.facts_of(request, cfg, template, None, None)
    assert facts.speed == ["compile"]
    assert facts.settings()["speed"] == ["compile"]  # a run goes on with the options it began with
    asked = RunRequest("a.py", argv=["tools/train.py"])
    plain = training.facts_of(asked, cfg, template, None, None)
    assert plain.protocol_sha256 == facts.protocol_sha256  # and follows the same protocol


def test_a_compiled_evaluation_scores_the_same_and_says_so(
    mini_root: Path, tmp_path: Path, monkeypatch, backend
) -> None:
    monkeypatch.chdir(ROOT)
    options = {
        "data_root": str(mini_root / "davis"),
        "layers": [-1],
        "settings": [{"last_frames": 1, "topk": 3}],
    }
    scores, records = {}, {}
    for name in ((), ("compile",)):
        folder = tmp_path / ("-".join(name) or "plain")
        scores[name] = evaluate(
            VIDEOS, None, records=folder / "records", options=options, work_dir=folder / "run",
            seed=0, speed=name,
        )  # fmt: skip
        (records[name],) = load_records(folder / "records")
    assert records[()].options == {}
    assert records[("compile",)].options == {"compile": "encoder blocks"}
    assert records[()].protocol == records[("compile",)].protocol
    assert scores[("compile",)]["J&F"] == pytest.approx(scores[()]["J&F"], abs=0.02)
