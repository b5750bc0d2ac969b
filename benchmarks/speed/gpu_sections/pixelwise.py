"""What dense tasks share: losses at full resolution, sliding inference, counts of a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from gpu_bench import Bench, Row, difference
from torch import Tensor

from pe_dense.pixelwise.banded_inference import BandedLogits
from pe_dense.pixelwise.depth_losses import (
    GRADIENT_STEPS,
    log_difference,
    log_gradient_loss,
    scale_invariant_log_loss,
)
from pe_dense.pixelwise.mean_iou import MeanIoU
from pe_dense.pixelwise.upsampled_loss import reference_cross_entropy, upsampled_cross_entropy
from pe_dense.pixelwise.windows import PixelBox, slide_windows
from pe_dense.probing.probe_tasks import DepthTask

LOSSES = {"UPerNet": (16, 150, 128, 512), "tokens": (16, 150, 32, 448)}
DEPTH = (16, 256, (30, 40), (480, 640))
IMAGES = ((512, 683), (1200, 1600))
TARGET = "at most 1.0 x plain, at most 1/4 of its memory"


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Row | list[Row]]]]:
    """The parts to measure."""
    for name, (batch, classes, grid, side) in LOSSES.items():
        if bench.tiny:
            batch, classes, grid, side = 1, 5, 4, 16
        yield (
            f"cross-entropy, {name}, {grid} to {side} px, {classes} classes, batch {batch}",
            lambda shape=(batch, classes, grid, side): loss_row(bench, *shape),
        )
    for size in ((20, 26),) if bench.tiny else IMAGES:
        classes, crop = (5, 16) if bench.tiny else (150, 512)
        yield (
            f"labels of windows, {size[0]} x {size[1]}, {classes} classes",
            lambda size=size, classes=classes, crop=crop: labels_row(bench, size, classes, crop),
        )
    batch, bins, grid, size = (1, 8, (3, 4), (48, 64)) if bench.tiny else DEPTH
    yield (
        f"depth losses, {size[0]} x {size[1]}, {bins} bins, batch {batch}",
        lambda: depth_row(bench, batch, bins, grid, size),
    )
    size, classes = ((20, 26), 5) if bench.tiny else (IMAGES[0], 150)
    yield (
        f"mIoU counts of a map on the device, {size[0]} x {size[1]}, {classes} classes",
        lambda: metric_row(bench, size, classes),
    )


def loss_row(bench: Bench, batch: int, classes: int, grid: int, side: int) -> Row:
    logits = torch.randn(batch, classes, grid, grid, device=bench.device, requires_grad=True)
    labels = torch.randint(0, classes, (batch, side, side), device=bench.device)

    def gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return torch.autograd.grad(loss(logits, labels), logits)[0]

    forms = {
        "ours": lambda: gradient(upsampled_cross_entropy),
        "plain": lambda: gradient(reference_cross_entropy),
    }
    equal = difference(forms["ours"](), forms["plain"]())
    times = bench.measure_turns(forms)
    return bench.row(
        times["ours"],
        times["plain"],
        "F.interpolate and F.cross_entropy",
        operations=12.0 * batch * classes * side**2,
        bytes_moved=2.0 * logits.nbytes,
        equal=f"gradient {equal}",
        target=TARGET,
    )


def labels_row(bench: Bench, size: tuple[int, int], classes: int, crop: int) -> Row:
    """Token logits of all windows to the label map of the image, as in sliding inference."""
    windows = slide_windows(size, (crop, crop), (crop * 2 // 3, crop * 2 // 3))
    tokens = torch.randn(len(windows), classes, crop // 16, crop // 16, device=bench.device)
    forms = {
        "ours": lambda: BandedLogits(tokens, windows, size, size).labels(),
        "plain": lambda: plain_labels(tokens, windows, size),
    }
    same = (forms["ours"]() == forms["plain"]()).float().mean()
    times = bench.measure_turns(forms)
    return bench.row(
        times["ours"],
        times["plain"],
        "upsampled windows added up, argmax",
        operations=4.0 * len(windows) * classes * crop**2,
        bytes_moved=tokens.nbytes + 8.0 * size[0] * size[1],
        equal=f"{float(same):.5%} of labels are the same",
        target=TARGET,
    )


def plain_labels(tokens: Tensor, windows: list[PixelBox], size: tuple[int, int]) -> Tensor:
    """What mmseg does: all logits of the image."""
    sums = tokens.new_zeros(1, tokens.shape[1], *size)
    counts = tokens.new_zeros(size)
    for one, w in zip(tokens, windows, strict=True):
        sums[(..., *w.slices)] += F.interpolate(one[None], w.size, mode="bilinear")
        counts[w.slices] += 1
    return F.interpolate(sums / counts, size, mode="bilinear")[0].argmax(0)


def depth_row(
    bench: Bench, batch: int, bins: int, grid: tuple[int, int], size: tuple[int, int]
) -> Row:
    """Logits of bins on tokens to both losses of depth, with their gradient."""
    generator = torch.Generator(bench.device).manual_seed(0)
    random = dict(device=bench.device, generator=generator)
    logits = torch.randn(batch, bins, *grid, **random).requires_grad_()
    depth = 0.5 + 9 * torch.rand(batch, *size, **random)
    depth[torch.rand(depth.shape, **random) < 0.2] = 0
    task = DepthTask(1e-3, 10, num_bins=bins).to(bench.device)
    at_kink, pixels_at_kink = depth_kinks(logits, depth, task.bins_K)
    depth[pixels_at_kink] = 0
    left_out = f"but for {int(at_kink.sum())} numbers and {int(pixels_at_kink.sum())} px at kinks"

    def ours() -> Tensor:
        return torch.autograd.grad(task.losses(logits[:, None], depth).sum(), logits)[0]

    def plain() -> Tensor:
        return plain_depth_gradient(logits, depth, task.bins_K)

    equal = difference(ours().masked_fill(at_kink, 0), plain().masked_fill(at_kink, 0))
    times = bench.measure_turns({"ours": ours, "plain": plain})
    pixels = batch * size[0] * size[1]
    return bench.row(
        times["ours"],
        times["plain"],
        "normalised scores in memory",
        operations=2.0 * 12 * batch * bins * 16 * grid[0] * grid[1],
        bytes_moved=2.0 * logits.nbytes + 8.0 * pixels,
        equal=f"gradient {equal}, {left_out}",
        target=TARGET,
    )


def plain_depth(logits: Tensor, bins_K: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Depth (B, H, W) and every score at four times the token grid, as DINOv2's head has them."""
    scores = F.interpolate(logits, scale_factor=4, mode="bilinear")
    weights = scores.relu() + 0.1
    weights = weights / weights.sum(1, keepdim=True)
    found = torch.einsum("bkhw,k->bhw", weights, bins_K)
    return F.interpolate(found[:, None], size, mode="bilinear")[:, 0], scores


def plain_depth_gradient(logits: Tensor, depth: Tensor, bins_K: Tensor) -> Tensor:
    """The gradient of both losses at the logits, in their precision."""
    found, _ = plain_depth(logits, bins_K, tuple(depth.shape[1:]))
    difference_BHW, counts = log_difference(found, depth, max_depth=10)
    loss = scale_invariant_log_loss(difference_BHW, counts, 0.15)
    loss = loss + 0.5 * log_gradient_loss(difference_BHW, counts, (-2, -1))
    return torch.autograd.grad(loss, logits)[0]


def depth_kinks(
    logits: Tensor, depth: Tensor, bins_K: Tensor, near: float = 2e-6
) -> tuple[Tensor, Tensor]:
    """Where rounding decides on which side of a kink float32 falls, so that gradients jump.

    Returns:
        bool (B, K, h, w): numbers of the gradient that a score depends on which is 0 but for
        `near` (the kink of relu); bool (B, H, W): pixels whose log difference is that of the
        pixel two further on but for `near` (the kink of |.| in the gradient loss). Without the
        annotation of these pixels no such pair is left.
    """
    found, scores = plain_depth(logits, bins_K, tuple(depth.shape[1:]))
    is_zero = (scores.abs() < near).to(scores.dtype)
    (touched,) = torch.autograd.grad(scores, logits, is_zero)
    difference_BHW, counts = log_difference(found.detach(), depth, max_depth=10)
    pixels = torch.zeros_like(counts)
    for step in GRADIENT_STEPS:
        g, m, found_at = (x[:, ::step, ::step] for x in (difference_BHW, counts, pixels))
        for axis in (1, 2):
            pairs = max(g.shape[axis] - 2, 0)
            last = g.shape[axis] - pairs
            change = g.narrow(axis, 0, pairs) - g.narrow(axis, last, pairs)
            both = m.narrow(axis, 0, pairs) & m.narrow(axis, last, pairs)
            found_at.narrow(axis, 0, pairs).logical_or_(both & (change.abs() < near))
    return touched > 0, pixels


def metric_row(bench: Bench, size: tuple[int, int], classes: int) -> Row:
    """Counts of one image, prediction and labels on the device."""
    labels = torch.randint(0, classes, size, device=bench.device)
    labels[torch.rand(size, device=bench.device) < 0.1] = 255
    prediction = torch.randint(0, classes, size, device=bench.device)
    metric = MeanIoU()
    metric.dataset_meta = dict(classes=[str(k) for k in range(classes)])
    sample = dict(
        img_path="image",
        pred_sem_seg=dict(data=prediction[None]),
        gt_sem_seg=dict(data=labels[None]),
    )

    def ours() -> Tensor:
        metric.results.clear()
        metric.process(None, [sample])
        return torch.as_tensor(metric.results[0][1])

    def plain() -> Tensor:
        """Three histograms, as mmseg's IoUMetric, which leaves them on the host."""
        counted = labels != 255
        found, wanted = prediction[counted], labels[counted]
        maps = found[found == wanted], found, wanted
        return torch.stack(
            [torch.histc(m.float(), classes, 0, classes - 1).cpu().long() for m in maps]
        )

    assert torch.equal(ours(), plain())
    times = bench.measure_turns({"ours": ours, "plain": plain})
    return bench.row(
        times["ours"],
        times["plain"],
        "three histograms",
        bytes_moved=float(labels.nbytes + prediction.nbytes),
        equal="identical",
        target="at most 1.0 x plain",
    )
