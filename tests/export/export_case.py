"""Small models as checkpoints, without a training, and the runner that has no torch."""

import importlib.util
from pathlib import Path

import torch
from mmengine.registry import MODELS, init_default_scope

from pe_dense.encoders.contract import WeightsInfo
from pe_dense.run.checkpoint import RunFacts
from pe_dense.run.request import RunRequest
from pe_dense.run.trained_run import TrainedRun

REPO = Path(__file__).resolve().parents[2]
# A tower of two blocks whose every number a test can afford.
TINY = {
    "depth": 4, "embed_dim": 32, "num_heads": 2, "mlp_hidden": 48, "patch_size": 16,
    "image_size": 64,
}  # fmt: skip


def runner_module():
    spec = importlib.util.spec_from_file_location("run_onnx", REPO / "docs/run_onnx.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def untrained_run(config, folder, seed=0, **options):
    """A checkpoint of a config with numbers that were drawn, large enough to differ."""
    options = {"model.backbone.encoder_options": TINY, **options}
    cfg, template = RunRequest(str(REPO / config), options=options).load()
    init_default_scope(cfg.get("default_scope", "mmengine"))
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    model.init_weights()
    facts = RunFacts(
        cfg.encoder, WeightsInfo("random", "random"), None, seed, False, 1, None, "", None,
        "0" * 40, False,
    )  # fmt: skip
    content = dict(state_dict=model.state_dict(), meta=dict(pe_dense=facts.to_meta()))
    file = Path(folder) / "epoch_1.pth"
    torch.save(content, file)
    return TrainedRun(file, content, facts, cfg, template)
