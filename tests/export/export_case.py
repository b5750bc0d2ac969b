"""Small models as checkpoints, without a training, and the runner that has no torch."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from pe_dense.encoders.contract import WeightsInfo
from pe_dense.run.checkpoint import RunFacts
from pe_dense.run.protocol import followed_sha256
from pe_dense.run.request import RunRequest
from pe_dense.run.saved_run import open_saved

REPO = Path(__file__).resolve().parents[2]
# A tower of two blocks whose every number a test can afford.
TINY = {
    "depth": 4, "embed_dim": 32, "num_heads": 2, "mlp_hidden": 48, "patch_size": 16,
    "image_size": 64,
}  # fmt: skip
DRAWN = WeightsInfo("random", "random")


def runner_module():
    """docs/run_onnx.py as a module; skips where onnxruntime, of the extra `export`, is missing."""
    pytest.importorskip("onnxruntime")
    spec = importlib.util.spec_from_file_location("run_onnx", REPO / "docs/run_onnx.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def untrained_run(config, folder, seed=0, weights=DRAWN, **options):
    """A checkpoint of a config with numbers that were drawn, opened as any other."""
    options = {"model.backbone.encoder_options": TINY, **options}
    request = RunRequest(str(REPO / config), weights="random", options=options)
    loaded = request.load_parts()
    init_default_scope(loaded.cfg.get("default_scope", "mmengine"))
    torch.manual_seed(seed)
    model = MODELS.build(loaded.cfg.model)
    model.init_weights()
    facts = RunFacts(
        encoder=loaded.cfg.encoder, weights=weights, protocol_sha256=None, seed=seed, amp=False,
        world_size=1, start_from=None, train_command="", train_seconds=None, commit="0" * 40,
        dirty=False, recipe=request.recipe(loaded).to_meta(),
    )  # fmt: skip
    sha256 = followed_sha256(loaded.template, facts)
    facts = dataclasses.replace(facts, protocol_sha256=sha256)
    file = Path(folder) / "epoch_1.pth"
    meta = dict(pe_dense=facts.to_meta())
    torch.save(dict(state_dict=model.state_dict(), meta=meta), file)
    return open_saved(file)


def spread(run):
    """Numbers large enough that what a model finds differs; the checkpoint has them, too."""
    torch.manual_seed(1)
    for value in run.content["state_dict"].values():
        if value.is_floating_point():
            value.add_(0.1 * torch.randn_like(value))
    torch.save(run.content, run.file)
    return run


def in_torch(program):
    """The runner with a program in the place of a file."""

    class InTorch(runner_module().ExportedModel):
        def __init__(self):
            self.facts = program.described()

        def _run(self, **arrays):
            inputs = (torch.from_numpy(arrays[name]) for name in program.inputs)
            with torch.no_grad():
                found = program.module(*inputs)
            return {k: v.numpy() for k, v in zip(program.outputs, found, strict=True)}

    return InTorch()
