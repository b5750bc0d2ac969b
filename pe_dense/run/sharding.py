"""Training with parameters, gradients and optimiser state spread over all processes (FSDP2).

A config that says `sharding = dict(...)` (configs/_base_/sharded.py) trains with `ShardedRunner`.
Every block of the encoder is one unit, whose parameters are together only while it computes; the
rest of the model is another. Names, optimiser groups and checkpoint files are those of plain
training: a run may go on sharded or plain, on another number of processes too, and
`tools/test.py` reads its checkpoints in one.

Source: ZeRO stage 3, arXiv:1910.02054; PyTorch FSDP, arXiv:2304.11277, in its second form
(`torch.distributed.fsdp.fully_shard`). MMEngine's own wrapper is the first form, which flattens
parameters, needs a GPU and another Runner.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_gather, all_reduce, get_world_size, is_main_process
from mmengine.hooks import EMAHook
from mmengine.model import BaseAveragedModel, convert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, RUNNERS
from mmengine.runner.loops import BaseLoop
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pe_dense.run.runner import NamingRunner


@dataclasses.dataclass(frozen=True)
class Sharding:
    """Settings of `sharding = dict(...)` in a config.

    Args:
        blocks: Dotted name of the list whose members become units, for example
            'backbone.encoder.transformer.resblocks'. None takes the one with the most parameters
            in `backbone`, which is the list of encoder blocks.
        param_dtype: 'bfloat16' gathers the blocks in it, which halves what is sent and held for a
            block; what is kept, reduced and saved stays float32. Only together with a bfloat16
            encoder (--amp, or model.backbone.amp_dtype), whose products are in bfloat16 anyway.
            None gathers float32. Either way, results are those of plain training up to the order
            of sums.
        cpu_offload: Keep parameters, gradients and optimiser state in the memory of the host and
            step there. Slow, and it frees 16 bytes per parameter on the GPUs.
    """

    blocks: str | None = None
    param_dtype: str | None = None
    cpu_offload: bool = False

    def __post_init__(self) -> None:
        if self.param_dtype not in (None, "bfloat16"):
            raise ValueError(
                f"sharding.param_dtype={self.param_dtype!r} is not None or 'bfloat16'; float16 "
                "would need loss scaling"
            )


def sharding_of(cfg: Config, launcher: str) -> Sharding | None:
    """The settings of a run; None where it is not sharded.

    Without a launcher there is one process, which holds everything: the run is a plain one.

    Raises:
        ValueError: If `cfg.sharding` has unknown settings, or asks for something that only a
            launched, or a bfloat16, run can do, or if torch is too old.
    """
    settings = cfg.get("sharding")
    if settings is None:
        return None
    known = {field.name for field in dataclasses.fields(Sharding)}
    if not isinstance(settings, Mapping) or not set(settings) <= known:
        raise ValueError(
            f"sharding={settings!r}: give dict(...) of {', '.join(sorted(known))}, or None for "
            "training without sharding"
        )
    sharding = Sharding(**settings)
    if launcher == "none":
        for name in ("param_dtype", "cpu_offload"):
            if getattr(sharding, name):
                raise ValueError(
                    f"sharding.{name} works in launched runs only; start with: torchrun "
                    "--nproc-per-node N tools/train.py ... --launcher pytorch (N may be 1)"
                )
        return None
    amp_dtype = cfg.get("model", {}).get("backbone", {}).get("amp_dtype")
    if sharding.param_dtype is not None and amp_dtype != sharding.param_dtype:
        raise ValueError(
            f"sharding.param_dtype={sharding.param_dtype!r} needs an encoder that computes in it, "
            f"but model.backbone.amp_dtype is {amp_dtype!r}; add --amp"
        )
    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise ValueError(
            f"sharding was written for torch 2.13, and {torch.__version__} lacks a part of its "
            "FSDP; update torch, or train without shards: --cfg-options sharding=None"
        )
    if "model_wrapper_cfg" in cfg:
        raise ValueError(
            "model_wrapper_cfg and sharding exclude each other; remove one from the config"
        )
    return sharding


def use_host_memory(cfg: Config) -> None:
    """Let processes with GPUs also talk about what lies in the memory of the host.

    `cpu_offload` clips gradients there, which NCCL cannot send.
    """
    if cfg.env_cfg.dist_cfg.backend == "nccl":
        cfg.env_cfg.dist_cfg.backend = "cpu:gloo,cuda:nccl"


def find_blocks(model: nn.Module, name: str | None) -> tuple[str, list[nn.Module]]:
    """Name and members of the list of modules that become units; see `Sharding.blocks`.

    Raises:
        ValueError: If there is no such list.
    """
    lists = {
        key: module
        for key, module in model.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module)
    }
    if name is None:
        sizes = {
            key: sum(parameter.numel() for parameter in module.parameters())
            for key, module in lists.items()
            if key.startswith("backbone.")
        }
        name = max(sizes, key=sizes.__getitem__, default="backbone.<list of blocks>")
    if name not in lists:
        raise ValueError(
            f"sharding.blocks: the model has no list of modules {name}; it has "
            f"{', '.join(lists) or 'none'}"
        )
    return name, list(lists[name])


def shard(model: nn.Module, sharding: Sharding) -> None:
    """Spread the parameters of `model` over all processes, in place.

    Every process must hold the same values. Parameters become DTensors under their old names; a
    state dict of whole tensors can be loaded, see `whole_state` for writing one. Parameters
    without a dimension stay whole, and `ShardedOptimWrapper` averages their gradients.

    Everything is given back after each forward pass, also by the outermost unit, so that what
    changes parameters between steps (averaging, loading) sees the shards and nothing else.
    """
    mesh = init_device_mesh(get_device(), (get_world_size(),))
    on_gpu = get_device() != "cpu"
    offload = CPUOffloadPolicy(pin_memory=on_gpu) if sharding.cpu_offload else OffloadPolicy()
    common = dict(
        mesh=mesh,
        reshard_after_forward=True,
        offload_policy=offload,
        ignored_params={parameter for parameter in model.parameters() if parameter.ndim == 0},
    )
    for block in find_blocks(model, sharding.blocks)[1]:
        if sharding.param_dtype is not None:
            for part in block.children():
                _shard_for_autocast(part, getattr(torch, sharding.param_dtype), **common)
        fully_shard(block, **common)
    fully_shard(model, **common)
    # Where a batch leaves a parameter unused on some processes, these add zero.
    model.set_reduce_scatter_unused_params(True)
    model.register_load_state_dict_pre_hook(_load_own_shards)


def _shard_for_autocast(part: nn.Module, dtype: torch.dtype, **common: Any) -> None:
    """Make a part of a block a unit that is gathered in `dtype`, if it multiplies matrices.

    Autocast would cast its parameters to that type anyway. It does not cast those of norms, which
    are therefore gathered as they are; inputs (the residual stream, rotary tables) stay, too.
    """
    if all(parameter.ndim < 2 for parameter in part.parameters()):
        return
    for inner in part.modules():
        own = list(inner.parameters(recurse=False))
        if inner is not part and own and all(parameter.ndim == 1 for parameter in own):
            fully_shard(inner, **common)
    precision = MixedPrecisionPolicy(dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    fully_shard(part, mp_policy=precision, **common)


def own_shard(whole: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, laid out as `like`; no communication.

    What is no counterpart of a sharded tensor (scalars, other shapes) comes back as it is.
    """
    if not isinstance(like, DTensor) or isinstance(whole, DTensor) or whole.shape != like.shape:
        return whole
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def _load_own_shards(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *unused: Any
) -> None:
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if prefix + name in state_dict:
            state_dict[prefix + name] = own_shard(state_dict[prefix + name], parameter)


def _gather(value: Any) -> Any:
    """The whole tensor in host memory on the first process, None on the others."""
    if isinstance(value, DTensor):
        value = value.detach().to(value.device_mesh.device_type).full_tensor()
    if not is_main_process():
        return None
    return value.cpu() if isinstance(value, Tensor) else value


@contextlib.contextmanager
def whole_state(module: nn.Module) -> Iterator[None]:
    """Inside, `module.state_dict()` on the first process has whole tensors in host memory.

    Entering is collective: every process must do it, one tensor is gathered at a time.
    """
    whole = {key: _gather(value) for key, value in module.state_dict().items()}

    def replace(_: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
        state.update({prefix + key: value for key, value in whole.items()})

    handle = module.register_state_dict_post_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def whole_optimizer_state(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The same as `whole_state`, for `optimizer.state_dict()`."""
    whole = {
        index: {key: _gather(value) for key, value in entry.items()}
        for index, entry in optimizer.state_dict()["state"].items()
    }
    handle = optimizer.register_state_dict_post_hook(lambda _, state: {**state, "state": whole})
    try:
        yield
    finally:
        handle.remove()


def _own_optimizer_shards(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict:
    """A state dict with whole tensors -> the part of this process."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    own = {
        index: {
            key: own_shard(value, parameters[index]) if isinstance(value, Tensor) else value
            for key, value in entry.items()
        }
        for index, entry in state["state"].items()
    }
    return {**state, "state": own}


def split_by_layout(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Sharded tensors and whole ones, in two lists or one: foreach kernels take no mixture."""
    sharded = [t for t in tensors if isinstance(t, DTensor)]
    whole = [t for t in tensors if not isinstance(t, DTensor)]
    return [group for group in (sharded, whole) if group]


def total_norm(
    gradients: Sequence[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Norm of all gradients as one vector, the same scalar on every process.

    The arguments are those of `torch.nn.utils.clip_grad_norm_`. Whole gradients count once, so
    they must be equal on all processes.
    """
    norms = []
    for group in split_by_layout(gradients):
        norm = get_total_norm(group, norm_type, error_if_nonfinite=False, foreach=foreach)
        norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    total = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]), norm_type)
    if error_if_nonfinite and not total.isfinite():
        raise RuntimeError(f"the gradient norm is {total.item()}, and error_if_nonfinite=True")
    return total


@OPTIM_WRAPPERS.register_module()
class ShardedOptimWrapper(OptimWrapper):
    """`OptimWrapper` whose gradients lie on all processes: it clips by the norm of the whole.

    `ShardedRunner` puts it where a config has an `OptimWrapper`; settings are the same.
    """

    def step(self, **kwargs: Any) -> None:
        """Average the gradients that are not sharded, clip, step."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for parameter in parameters:
            if not isinstance(parameter, DTensor) and parameter.requires_grad:
                if parameter.grad is None:  # unused here, perhaps used elsewhere
                    parameter.grad = torch.zeros_like(parameter)
                all_reduce(parameter.grad, op="mean")
        groups = split_by_layout([p for p in parameters if p.grad is not None])
        if self.clip_grad_kwargs:
            self._clip(groups)
        for group in groups:  # one after the other: without gradient, a parameter is skipped
            hidden = [(p, p.grad) for other in groups if other is not group for p in other]
            for parameter, _ in hidden:
                parameter.grad = None
            self.optimizer.step(**kwargs)
            for parameter, gradient in hidden:
                parameter.grad = gradient

    def _clip(self, groups: Sequence[Sequence[nn.Parameter]]) -> None:
        if self.grad_name == "grad_value":
            for group in groups:
                self.clip_func(group, **self.clip_grad_kwargs)
        elif groups:
            settings = dict(self.clip_grad_kwargs)
            max_norm = settings.pop("max_norm")
            norm = total_norm([p.grad for group in groups for p in group], **settings)
            for group in groups:
                clip_grads_with_norm_(group, max_norm, norm)
            self.message_hub.update_scalar("train/grad_norm", float(norm))


@RUNNERS.register_module()
class ShardedRunner(NamingRunner):
    """MMEngine's Runner with a sharded model; its config holds `sharding`, see `Sharding`.

    Needs a launcher. The model is initialised whole on every process (4 bytes per parameter for a
    moment) with the values of the first, then sharded. Evaluation within training is sharded, too:
    all processes must see the same number of batches, which is checked.
    """

    def wrap_model(
        self, model_wrapper_cfg: Mapping[str, Any] | None, model: nn.Module
    ) -> nn.Module:
        """The model on this process's device; it is sharded after initialisation, not wrapped."""
        model = model.to(get_device())
        if self.cfg.get("sync_bn") is not None:
            model = convert_sync_batchnorm(model, self.cfg.sync_bn)
        return model

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Build the optimiser on the whole model.

        Raises:
            ValueError: If the config asks for another wrapper than `OptimWrapper`.
        """
        if isinstance(optim_wrapper, ShardedOptimWrapper):
            return optim_wrapper
        kind = optim_wrapper.get("type", "OptimWrapper")
        if kind not in ("OptimWrapper", "ShardedOptimWrapper"):
            raise ValueError(
                f"sharded training takes optim_wrapper.type='OptimWrapper', not {kind!r}; for a "
                "bfloat16 encoder use --amp"
            )
        return super().build_optim_wrapper({**optim_wrapper, "type": "ShardedOptimWrapper"})

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Also check that all processes get the same number of batches."""
        return _require_equal_batches(super().build_train_loop(loop), "train_dataloader")

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Also check that all processes get the same number of batches."""
        return _require_equal_batches(super().build_val_loop(loop), "val_dataloader")

    def _init_model_weights(self) -> None:
        """Initialise, then shard the model and its averaged copies, and tell the optimiser."""
        super()._init_model_weights()
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        sharding = Sharding(**self.cfg.sharding)
        shard(self.model, sharding)
        sharded = dict(self.model.named_parameters())
        optimizer = self.optim_wrapper.optimizer
        optimizer.register_load_state_dict_pre_hook(_own_optimizer_shards)
        for group in optimizer.param_groups:
            group["params"] = [sharded[names[parameter]] for parameter in group["params"]]
        for averaged in self._averaged_models():
            shard(averaged.module, sharding)
            own = averaged.module
            averaged.avg_parameters = (
                own.state_dict() if averaged.update_buffers else dict(own.named_parameters())
            )
        name, blocks = find_blocks(self.model, sharding.blocks)
        here = sum(
            (p.to_local() if isinstance(p, DTensor) else p).numel() for p in sharded.values()
        )
        self.logger.info(
            f"sharding: {len(blocks)} blocks of {name} over {self.world_size} processes; this one "
            f"keeps {here / 1e6:.1f} of {sum(p.numel() for p in sharded.values()) / 1e6:.1f} M "
            "parameters"
        )

    def _averaged_models(self) -> list[BaseAveragedModel]:
        return [hook.ema_model for hook in self.hooks if isinstance(hook, EMAHook)]

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        **kwargs: Any,
    ) -> None:
        """Gather on all processes, write whole tensors on the first.

        The first process needs the memory of the host for parameters and optimiser state, three
        times over (torch serialises into memory before the file is written).
        """
        with contextlib.ExitStack() as stack:
            for module in (self.model, *(averaged.module for averaged in self._averaged_models())):
                stack.enter_context(whole_state(module))
            if save_optimizer:
                stack.enter_context(whole_optimizer_state(self.optim_wrapper.optimizer))
            super().save_checkpoint(out_dir, filename, file_client_args, save_optimizer, **kwargs)


def _require_equal_batches(loop: BaseLoop, name: str) -> BaseLoop:
    """The loop itself; ValueError if processes would wait for each other in vain."""
    counts = [int(n) for n in all_gather(torch.tensor([len(loop.dataloader)]))]
    if len(set(counts)) > 1:
        raise ValueError(
            f"{name} gives {min(counts)} to {max(counts)} batches to the processes, which sharded "
            f"training would wait for forever; set {name}.sampler.round_up=True, or leave it out"
        )
    return loop
