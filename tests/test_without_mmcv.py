"""What needs no compiled operators runs where mmcv, mmdet and mmseg are not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmengine")
REPO = Path(__file__).resolve().parents[1]

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mmcv", "mmdet", "mmseg"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Hidden())
"""

PROGRAMS = {
    "encoders": """
import torch
from pe_dense.encoders.build import build_encoder
encoder = build_encoder("pe_spatial_t16_512", depth=2).eval()
[found] = encoder.forward_intermediates(torch.rand(1, 3, 64, 48), (-1,))
assert found.shape == (1, 192, 4, 3)
""",
    "alignment": """
import torch
from mmengine.registry import MODELS
import pe_dense.alignment
student = dict(
    type="DenseBackbone", encoder="pe_spatial_t16_512", encoder_options=dict(depth=2),
    out_indices=(-1,),
)
teacher = dict(
    name="core", type="EncoderTeacher", encoder="pe_core_t16_384", weights="random", layer=0,
    encoder_options=dict(depth=1),
)
losses = [
    dict(name="core", teacher="core", type="TokenCosineLoss"),
    dict(name="pairs", teacher="core", type="PairwiseSimilarityLoss"),
]
model = MODELS.build(
    dict(type="SpatialAligner", backbone=student, teachers=[teacher], losses=losses)
)
terms = model(torch.rand(2, 3, 64, 64), mode="loss")
sum(terms.values()).backward()
assert all(term.isfinite() for term in terms.values())
""",
    "probing": """
import torch
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement, PixelData
import pe_dense.probing
from pe_dense.data.picture import decode_picture
from pe_dense.openmmlab.image_loading import LoadImage
backbone = dict(type="DenseBackbone", encoder="pe_spatial_t16_512", encoder_options=dict(depth=2))
model = MODELS.build(
    dict(
        type="LayerProbe", backbone=backbone, encoder_depth=2, task="segmentation",
        task_options=dict(num_classes=3), sources="all", lrs=(1e-2,), weight_decays=(0.0,),
    )
)
labels = PixelData(data=torch.randint(0, 3, (1, 64, 64)))
loss = model.loss(torch.rand(1, 3, 64, 64), [BaseDataElement(gt_sem_seg=labels)])["loss"]
loss.backward()
assert loss.isfinite()
""",
    "propagation": """
import torch
import pe_dense.tracking
from pe_dense.tracking.label_propagation import propagate_labels
from pe_dense.tracking.reference import PropagationSetting
first = torch.zeros(2, 4, 5)
first[0, :2], first[1, 2:] = 1, 1
frame = torch.nn.functional.normalize(torch.randn(4, 5, 8), dim=-1)
settings = (PropagationSetting(),)
labels = list(propagate_labels([frame, frame, frame], first, settings))
assert len(labels) == 2 and labels[0][0].shape == (2, 4, 5)
""",
    "results": """
import importlib, pkgutil
import pe_dense.results
for module in pkgutil.walk_packages(pe_dense.results.__path__, "pe_dense.results."):
    importlib.import_module(module.name)
""",
    "runs": """
import importlib, pkgutil
import pe_dense.run
for module in pkgutil.walk_packages(pe_dense.run.__path__, "pe_dense.run."):
    importlib.import_module(module.name)
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_runs_where_mmcv_is_not_installed(name: str) -> None:
    program = HIDE + PROGRAMS[name]
    env = os.environ | {"PYTHONPATH": str(REPO)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]


def test_mmcv_is_hidden_from_those_programs() -> None:
    done = subprocess.run([sys.executable, "-c", HIDE + "import mmcv"], capture_output=True)
    assert b"No module named 'mmcv'" in done.stderr
