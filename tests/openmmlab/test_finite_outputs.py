"""An evaluation stops where a part of the model leaves the numbers, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("mmengine")

from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pe_dense.openmmlab.finite_outputs import RequireFiniteOutputs, judged_modules

INF = float("inf")


class Counted(BaseMetric):
    """How many batches were scored."""

    def process(self, data_batch: object, data_samples: list) -> None:
        self.results.append(len(data_samples))

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {"count": sum(results)}


class Head(nn.Module):
    """A layer, of whose output a part is masked with inf before the best is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, features_B2: Tensor) -> Tensor:
        scores_B2 = self.layer(features_B2)
        return scores_B2.masked_fill(torch.tensor([True, False]), -INF)


class Model(BaseModel):
    def __init__(self, bad_prediction: bool = False) -> None:
        super().__init__()
        self.backbone, self.head = nn.Sequential(nn.Linear(2, 2)), Head()
        self.unused = nn.Parameter(torch.tensor(INF))
        self.bad_prediction = bad_prediction

    def forward(self, inputs: Tensor, mode: str = "tensor") -> list[BaseDataElement]:
        best_B = self.head(self.backbone(inputs)).amax(1)
        if self.bad_prediction:
            best_B = best_B / 0
        return [BaseDataElement(pred_score=best, gt_depth=best * INF) for best in best_B]


def score(model: Model, work_dir: Path) -> dict[str, float]:
    runner = Runner(
        model,
        str(work_dir),
        test_dataloader=DataLoader([dict(inputs=torch.ones(2))] * 4, batch_size=2),
        test_cfg={},
        test_evaluator=[Counted()],
        custom_hooks=[RequireFiniteOutputs("checkpoint a.pth")],
        experiment_name=f"{work_dir.name}-{id(model)}",
    )
    found = runner.test()
    assert not any(module._forward_hooks for module in model.modules())
    return found


def test_what_a_model_masks_between_its_layers_is_no_mistake(tmp_path: Path) -> None:
    assert score(Model(), tmp_path) == {"count": 4}


@pytest.mark.parametrize("value", [INF, -INF, float("nan"), 3e38])
@pytest.mark.parametrize(
    ("layer", "part"), [("backbone.0", "backbone"), ("head.layer", "head.layer")]
)
def test_weights_that_overflow_are_refused(
    value: float, layer: str, part: str, tmp_path: Path
) -> None:
    model = Model()
    linear = model.get_submodule(layer)
    nn.init.constant_(model.backbone[0].weight, 1.0)
    nn.init.constant_(linear.weight, value)
    with pytest.raises(
        ValueError, match=rf"^checkpoint a\.pth: {part} gives NaN.*earlier checkpoint"
    ):
        score(model, tmp_path)


def test_predictions_are_judged_but_not_the_truth(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the predictions gives NaN or infinite"):
        score(Model(bad_prediction=True), tmp_path)


def test_parts_of_a_tracker_are_judged_like_those_of_its_detector() -> None:
    names = [name for name, _ in judged_modules(nn.ModuleDict({"detector": Model()}))]
    assert names == ["detector.backbone", "detector.head.layer"]
