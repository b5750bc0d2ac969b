"""What tests/test_sharding.py starts on two processes: small trainings, and checks that need both.

torchrun --nproc-per-node 2 tests/sharded_runs.py DATA_ROOT OUT
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from runs import train
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from pe_dense.run.launch import leave_together
from pe_dense.run.sharding import ShardedOptimWrapper, Sharding, shard, whole_state

CONFIG = Path(__file__).resolve().parents[1] / "configs/detection/deta_pe_t16_mini.py"
OPTIONS = {
    "num_queries": 20,
    "train_scales": [(64, 64)],
    "image_scale": (64, 64),
    "max_epochs": 2,
    "val_interval": 2,
    "batch_size": 3,
    "lr": 1e-3,
    "layer_decay": 0.8,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "val_dataloader.num_workers": 0,
    "val_dataloader.persistent_workers": False,
    "model.backbone.grad_checkpointing": True,
}
EMA = 'dict(type="EMAHook", momentum=0.3)'


@HOOKS.register_module()
class KeepLosses(Hook):
    """Writes what this process has logged, and how much of the model it holds."""

    def after_train(self, runner) -> None:
        history = runner.message_hub.log_scalars
        parameters = list(runner.model.parameters())
        kept = [p.to_local() if isinstance(p, DTensor) else p for p in parameters]
        state = runner.optim_wrapper.optimizer.state
        moments = [s["exp_avg"] for s in state.values()]
        moments = [m.to_local() if isinstance(m, DTensor) else m for m in moments]
        content = {
            name: history[f"train/{name}"].data[0].tolist() for name in ("loss", "grad_norm")
        }
        content |= dict(
            kept=sum(map(Tensor.numel, kept)),
            moments=sum(map(Tensor.numel, moments)),
            all=sum(map(Tensor.numel, parameters)),
        )
        file = Path(runner.work_dir) / f"rank{dist.get_rank()}.json"
        file.write_text(json.dumps(content))


class Toy(nn.Module):
    """Uneven shards, a frozen block, a scalar, and a parameter that only some batches use."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.backbone = nn.Module()
        self.backbone.blocks = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))
        self.backbone.blocks[0].requires_grad_(False)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.rare = nn.Parameter(torch.ones(7))
        self.head = nn.Linear(5, 3)

    def forward(self, x_BC: Tensor, with_rare: bool) -> Tensor:
        with torch.no_grad():
            x_BC = self.backbone.blocks[0](x_BC)
        for block in self.backbone.blocks[1:]:
            x_BC = checkpoint(block, x_BC, use_reentrant=False).tanh()
        loss = (self.scale * self.head(x_BC)).square().sum()
        return loss + self.rare.square().sum() if with_rare else loss


def steps_of_toy(clip: dict, optimizer: type = torch.optim.SGD, **settings) -> list[str]:
    """Sharded steps against one process that sees the batches of all; what differs, in words."""
    rank, size = dist.get_rank(), dist.get_world_size()
    batches = torch.randn(4, size, 6, 5, generator=torch.Generator().manual_seed(1))
    plain, toy = Toy(), Toy()
    shard(toy, Sharding())
    trained = [[p for p in model.parameters() if p.requires_grad] for model in (plain, toy)]
    plain_optimizer = optimizer(trained[0], lr=0.1)
    wrapper = ShardedOptimWrapper(optimizer(trained[1], lr=0.1, **settings), clip_grad=dict(clip))
    arguments = {key: value for key, value in clip.items() if key != "type"}
    clip_plain = getattr(nn.utils, f"clip_grad_{clip.get('type', 'norm')}_")
    found = []
    for batch in batches:
        plain_optimizer.zero_grad()
        sum(plain(x_BC, r == 0) / size for r, x_BC in enumerate(batch)).backward()
        norm = clip_plain(trained[0], **arguments)
        plain_optimizer.step()
        wrapper.zero_grad()
        wrapper.backward(toy(batch[rank], rank == 0))
        wrapper.step()
        logged = norm and wrapper.message_hub.get_scalar("train/grad_norm").current()
        if norm is not None and abs(logged - norm.item()) > 1e-4 * norm.item():
            found.append(f"{clip}: norm {logged}, not {norm.item()}")
    with whole_state(toy):
        state = toy.state_dict()
    if rank == 0:
        for name, value in plain.state_dict().items():
            if not torch.allclose(state[name], value, atol=1e-5):
                found.append(f"{clip}: {name} differs by {(state[name] - value).abs().max()}")
    return found


def refused(function: Callable[[], object]) -> str:
    try:
        function()
    except ValueError as error:
        return str(error)
    return ""


def main(data_root: str, out: Path) -> None:
    """All trainings; results lie in `out`."""

    def run(name: str, hooks: str = "", resume: bool = False, amp: bool = False, **options) -> None:
        file = out / f"{name}.py"
        base = f'_base_ = ["{CONFIG}"]\nsharding = dict()\nload_from = None\n'
        base += f'custom_hooks = [dict(type="ExactResumeHook"), dict(type="KeepLosses"), {hooks}]\n'
        base += "param_scheduler = []\nstart_without = []\n"
        if dist.get_rank() == 0:
            file.write_text(base)
        dist.barrier()
        options = {"data_root": data_root, **OPTIONS, **options}
        train(file, None, None, options, out / name, "pytorch", resume=resume, amp=amp)
        dist.barrier()

    def prepare(name: str, source: str) -> None:
        """A run that stopped after the first epoch of another one."""
        if dist.get_rank() == 0:
            (out / name).mkdir()
            shutil.copy(out / source / "epoch_1.pth", out / name)
        dist.barrier()

    run("plain", EMA, sharding=None)
    run("sharded", EMA)
    for name, sharding in (("resumed", {}), ("resumed_plain", None)):
        prepare(name, "sharded")
        run(name, EMA, resume=True, sharding=sharding)
    for name, sharding in (("updates", {}), ("updates_plain", None)) if find_spec("peft") else ():
        run(name, max_epochs=1, sharding=sharding, tune="lora=4", ema=0.9)
    half = dict(param_dtype="bfloat16", cpu_offload=True)
    tuning = {
        "load_from": str(out / "sharded" / "epoch_2.pth"),
        "start_without": ["bbox_head.cls_branches."],
        "train_cfg.val_begin": 9,
    }
    for name, sharding in (("tuned", half), ("tuned_plain", None)):
        run(name, amp=True, max_epochs=1, sharding=sharding, **tuning)
    found = steps_of_toy(dict(max_norm=0.5), foreach=False)
    found += steps_of_toy(dict(max_norm=0.5), foreach=True)
    found += steps_of_toy(dict(max_norm=0.1, norm_type=float("inf")))
    found += steps_of_toy(dict(max_norm=0.5), torch.optim.AdamW, foreach=True)
    found += steps_of_toy(dict(type="value", clip_value=0.01), foreach=True)
    uneven = refused(
        lambda: run(
            "uneven",
            **{
                "val_dataloader.sampler.round_up": False,
                "val_dataloader.dataset.indices": 5,
                "val_dataloader.batch_size": 1,
            },
        )
    )
    if dist.get_rank() == 0:
        (out / "checks.json").write_text(json.dumps(dict(toy=found, uneven=uneven)))


if __name__ == "__main__":
    dist.init_process_group("gloo")
    main(sys.argv[1], Path(sys.argv[2]))
    leave_together()
