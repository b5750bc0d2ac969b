"""A run stops before the step that would spoil its weights; good checkpoints stay as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmengine")

from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pe_dense.openmmlab.nan_stop import MAX_OVERFLOWS, StopOnNaN, bad_term

NAN = float("nan")


class Line(BaseModel):
    """w x, with a step at which loss or gradient leaves the numbers."""

    def __init__(self, bad_step: int = -1, bad: str = "loss") -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))
        self.bad_step, self.bad, self.step = bad_step, bad, 0

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor | list[Tensor]]:
        self.step += 1
        loss = (self.w * inputs.float()).square().mean()
        if self.step >= self.bad_step > 0:
            if self.bad == "loss":
                return dict(loss_box=loss, loss_class=[loss, loss * NAN])
            loss = loss + (0 * self.w).sum().sqrt()  # a number, whose gradient is none
        return dict(loss_box=loss, loss_class=[loss, loss], accuracy=torch.tensor(NAN))


def run(model: Line, work_dir: Path, steps: int = 6, wrapper: type = OptimWrapper, **more) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=more.pop("lr", 0.1))
    data = [dict(inputs=torch.ones(2)) for _ in range(8)]
    runner = Runner(
        model,
        str(work_dir),
        train_dataloader=DataLoader(data, batch_size=2),
        train_cfg=dict(by_epoch=False, max_iters=steps),
        optim_wrapper=wrapper(optimizer=optimizer, **more),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1, by_epoch=False)),
        custom_hooks=[StopOnNaN()],
        experiment_name=f"{work_dir.name}-{id(model)}",
    )
    runner.train()


def weights(file: Path) -> Tensor:
    return torch.load(file, weights_only=False)["state_dict"]["w"]


def test_a_good_run_is_left_alone(tmp_path: Path) -> None:
    run(Line(), tmp_path)
    assert bool(weights(tmp_path / "iter_6.pth").isfinite().all())


@pytest.mark.parametrize("clip_grad", [None, dict(max_norm=1.0), dict(type="value", clip_value=1)])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("loss", "loss term loss_class is nan at step 3; train again with a lower"),
        ("gradient", "the norm of the gradient is (nan|inf) at step 3; train again"),
    ],
)
def test_it_stops_before_the_step(
    bad: str, message: str, clip_grad: dict | None, tmp_path: Path
) -> None:
    if bad == "gradient" and clip_grad and "clip_value" in clip_grad:
        pytest.skip("clipping by value hides what is infinite")
    model = Line(bad_step=3, bad=bad)
    with pytest.raises(ValueError, match=message):
        run(model, tmp_path, clip_grad=clip_grad and dict(clip_grad))
    assert sorted(file.name for file in tmp_path.glob("*.pth")) == ["iter_1.pth", "iter_2.pth"]
    assert torch.equal(model.w, weights(tmp_path / "iter_2.pth"))


def test_accumulated_gradients_are_looked_at_when_they_count(tmp_path: Path) -> None:
    model = Line(bad_step=3, bad="gradient")
    with pytest.raises(ValueError, match="gradient is (nan|inf) at step 4"):
        run(model, tmp_path, accumulative_counts=2)
    assert torch.equal(model.w, weights(tmp_path / "iter_3.pth"))


def test_weights_that_overflow_in_a_step_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="parameter w is not finite after step 1, so no check"):
        run(Line(), tmp_path, lr=3e38)
    assert not list(tmp_path.glob("*.pth"))


class CpuAmp(AmpOptimWrapper):
    """MMEngine's wrapper for float16, which takes GPUs only."""

    def __init__(self, **named: object) -> None:
        OptimWrapper.__init__(self, **named)
        self.loss_scaler = torch.amp.GradScaler("cpu")
        self._scale_update_param = None

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        yield


def test_a_scaler_may_leave_out_steps(tmp_path: Path) -> None:
    model = Line(bad_step=3, bad="gradient")
    run(model, tmp_path, wrapper=CpuAmp, steps=6)
    assert torch.equal(model.w, weights(tmp_path / "iter_2.pth"))


def test_but_not_all_of_them(tmp_path: Path) -> None:
    last = 2 + MAX_OVERFLOWS
    with pytest.raises(ValueError, match=f"up to step {last}, so that the loss scale fell to"):
        run(Line(bad_step=3, bad="gradient"), tmp_path, wrapper=CpuAmp, steps=last + 5)


def test_the_first_bad_term_is_named() -> None:
    nan, one = torch.tensor(NAN), torch.tensor(1.0)
    assert bad_term(dict(loss=nan, loss_core=one, loss_sam=nan))[0] == "loss_sam"
    assert bad_term(dict(loss=torch.tensor(float("inf")))) == ("loss", float("inf"))
    assert bad_term(dict(loss_box=[one, torch.tensor([1.0, NAN])]))[0] == "loss_box"
    assert bad_term(dict(loss=one, accuracy=nan)) is None and bad_term({}) is None
