"""The model of a probing run: a frozen encoder and a bank of heads on its layers.

Shape legend: B images, C width, S sources, P heads of a source, K outputs, h w token grid.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor

from pe_dense.pixelwise.batch_sizes import AnyImageSize
from pe_dense.pixelwise.windows import unpadded_size, window_outputs, windows_of
from pe_dense.probing.half_length import half_length_heads
from pe_dense.probing.head_bank import (
    HeadBank,
    Source,
    head_settings,
    resolve_sources,
    source_name,
)
from pe_dense.probing.probe_tasks import TASKS


@MODELS.register_module()
class LayerProbe(AnyImageSize, BaseModel):
    """Trains many linear heads at once from a single frozen pass over each batch.

    Every layer is read in that pass and normalised once; its heads are one matrix product, their
    logits stay at token resolution, and the loss is fused with the upsampling. Heads never meet:
    each learns what it would learn alone on the same data in the same order.

    Args:
        data_preprocessor: Config of what batches and normalises images.
        backbone: Config of a frozen backbone with `out_indices`, `embed_dim` and `patch_size`,
            for example `DenseBackbone`; `out_indices` and `frozen` are set here.
        encoder_depth: Number of blocks of the encoder.
        sources: Layers to probe, 0-based, negatives allowed; a tuple is a concatenation
            (the last four of 12: (8, 9, 10, 11)). 'all' is every layer.
        task: 'segmentation' or 'depth'.
        task_options: Arguments of `SegmentationTask` or `DepthTask`.
        lrs, weight_decays, seeds: The heads of every source are all combinations.
        listed_depth: Depth of encoder that `sources` was written for; another one is refused,
            because the layers would be others. None skips this.
        batch_norm: See `HeadBank`.
        half_length: Whether heads of half the training learn beside the others, to show whether
            those were trained to their end; see half_length.py.
        pixels_per_patch: Images are resized so that a patch covers so many of their pixels on a
            side: encoders of all patch sizes then see the same number of tokens. None: as many
            as the patch has.
        test_cfg: mode 'whole', or 'slide' with crop_size and stride; window_batch (8).

    Raises:
        ValueError: If a layer, the depth, the task or the backbone does not fit.

    Source: heads by DINOv2 (arXiv:2304.07193); many heads on one pass is what DINOv2's linear
    classification does (facebookresearch/dinov2 eval/linear.py).
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        encoder_depth: int,
        task: str,
        task_options: Mapping[str, Any],
        sources: Sequence[Source] | str = "all",
        lrs: Sequence[float] = (1e-3,),
        weight_decays: Sequence[float] = (1e-2,),
        seeds: Sequence[int] = (0,),
        listed_depth: int | None = None,
        batch_norm: bool = True,
        half_length: bool = False,
        pixels_per_patch: int | None = None,
        test_cfg: Mapping[str, Any] | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if task not in TASKS:
            raise ValueError(f"task {task!r} is not known to probes; use one of {sorted(TASKS)}")
        if listed_depth is not None and listed_depth != encoder_depth:
            raise ValueError(
                f"the probed layers were listed for an encoder of {listed_depth} blocks, but this "
                f"one has {encoder_depth}; set sources='all', or list layers and listed_depth anew"
            )
        resolved = resolve_sources(sources, encoder_depth)
        layers = sorted({layer for source in resolved for layer in source})
        settings = copy.deepcopy(dict(backbone))
        settings.update(out_indices=layers, frozen=True)
        self.backbone = MODELS.build(settings)
        trained = [n for n, p in self.backbone.named_parameters() if p.requires_grad]
        if trained:
            raise ValueError(f"backbone parameter {trained[0]} is trained; probes need frozen ones")
        self.task = TASKS[task](**task_options)
        heads = head_settings(lrs, weight_decays, seeds)
        heads += half_length_heads(heads) if half_length else ()
        self.bank = HeadBank(
            resolved, self.backbone.embed_dim, self.task.num_outputs, heads, batch_norm
        )
        self.pixels_per_patch = pixels_per_patch or self.backbone.patch_size
        self.test_cfg = dict(test_cfg or {})

    def init_weights(self) -> None:
        """Heads are drawn by their own seeds; the encoder keeps what it loaded."""
        if hasattr(self.backbone, "init_weights"):
            self.backbone.init_weights()
        self._is_init = True

    def train(self, mode: bool = True) -> LayerProbe:
        """Switch mode; the encoder stays in eval."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """As MMEngine asks: 'loss' -> dict, 'predict' -> samples, 'tensor' -> token logits."""
        if mode == "tensor":
            return self.token_logits(inputs)
        if mode not in ("loss", "predict"):
            raise ValueError(f"mode {mode!r} is not known; use 'loss', 'predict' or 'tensor'")
        patch = self.pixels_per_patch
        if min(inputs.shape[2:]) < patch:
            files = [str(s.get("img_path", "?")) for s in data_samples or ()]
            raise ValueError(
                f"images of {inputs.shape[2]} x {inputs.shape[3]} px are smaller than one patch of "
                f"{patch} px ({', '.join(files)}); enlarge them in the pipeline"
            )
        return (
            self.loss(inputs, data_samples)
            if mode == "loss"
            else self.predict(inputs, data_samples)
        )

    def token_logits(self, images_B3HW: Tensor) -> list[Tensor]:
        """(B, P, K, h, w) of every source."""
        return self.bank(self._maps(images_B3HW))

    def _maps(self, images_B3HW: Tensor) -> dict[int, Tensor]:
        """Layer -> (B, C, h, w) features of the frozen encoder."""
        patch = self.backbone.patch_size
        with torch.no_grad():
            if patch != self.pixels_per_patch:
                sides = [patch * side // self.pixels_per_patch for side in images_B3HW.shape[2:]]
                images_B3HW = F.interpolate(
                    images_B3HW, sides, mode="bilinear", align_corners=False, antialias=True
                )
            return dict(zip(self.bank.layers, self.backbone(images_B3HW), strict=True))

    def head_losses(self, inputs: Tensor, samples: Sequence[BaseDataElement]) -> Tensor:
        """(S, P) losses of all heads."""
        try:
            targets = self.task.prepare(samples, inputs.device)
            each = self.bank.each(self._maps(inputs))
            return torch.stack([self.task.losses(logits, targets) for logits in each])
        except ValueError as error:
            files = [str(s.get("seg_map_path", s.get("img_path", "?"))) for s in samples]
            raise ValueError(f"{error} (batch of {', '.join(files)})") from error

    def loss(self, inputs: Tensor, samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """See `summed_losses`."""
        return summed_losses(self.bank, self.head_losses(inputs, samples))

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, samples: Sequence[BaseDataElement]
    ) -> Sequence[BaseDataElement]:
        """Samples with `probe_counts`: (S, P, 3, K) pixel counts, or (S, P, Q) depth error sums.

        Everything that a metric needs; no map of any head leaves the model.

        Raises:
            ValueError: If an image is padded at the left or top.
        """
        size = tuple(inputs.shape[2:])
        windows = windows_of(self.test_cfg, size)
        logits_NBSPKhw = window_outputs(
            lambda part: torch.stack(self.token_logits(part), 1),
            inputs,
            windows,
            self.test_cfg.get("window_batch", 8),
        )
        for b, sample in enumerate(samples):
            image_hw = unpadded_size(sample, size, "probes expect")
            heads_NSPKhw = logits_NBSPKhw[:, b]
            counts = self.task.counts(heads_NSPKhw.flatten(1, 2), windows, image_hw, sample)
            sample.set_field(counts.unflatten(0, heads_NSPKhw.shape[1:3]).cpu(), "probe_counts")
        return samples


def summed_losses(bank: HeadBank, losses_SP: Tensor) -> dict[str, Tensor]:
    """Sum over the heads, whose gradient is that of each alone, and what is worth logging.

    The nan of a head that diverges reaches no other head, and not the sum; it is a term of its own,
    at which a training run stops.
    """
    seen_SP = losses_SP.detach()
    finite_SP = torch.isfinite(seen_SP)
    # Not multiplied by 0: nan * 0 is nan, and the sum is what optimisers scale and log.
    total = torch.where(finite_SP, losses_SP, torch.zeros_like(losses_SP)).sum()
    places = (~finite_SP).nonzero().tolist()
    diverged = {_head_name(bank, s, p): seen_SP[s, p] for s, p in places}
    shown = torch.where(finite_SP, seen_SP, torch.full_like(seen_SP, torch.inf))
    return {"loss": total, "head_best": shown.min(), "head_median": shown.median(), **diverged}


def _head_name(bank: HeadBank, source: int, head: int) -> str:
    setting = bank.settings[head]
    return (
        f"loss of layer {source_name(bank.sources[source])} with lr {setting.lr:g}, "
        f"weight decay {setting.weight_decay:g}, seed {setting.seed}"
        f"{', half as long' if setting.half_length else ''}"
    )
