"""Alignment: the pairwise loss, LAMB, the SAM 2.1 teacher, and a whole step of PE G."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from gpu_bench import Bench, Row, difference
from mmengine.registry import MODELS

import pe_dense.alignment  # noqa: F401 (registers the models)
from gpu_sections.encoder import encoder_operations, without_kernels
from pe_dense.alignment import frozen_teacher, sam_teacher
from pe_dense.alignment.lamb import LAMB
from pe_dense.alignment.losses import pairwise_similarity_loss, plain_pairwise_loss

G_STEPS = ((8, False), (64, False), (8, True))  # images, compiled; compiling takes longest


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Row | list[Row]]]]:
    """The parts to measure."""
    for tokens, batch, bound in (
        ((64, 3, 1.0),) if bench.tiny else ((1024, 24, 1.0), (4096, 2, 0.7))
    ):
        yield (
            f"pairwise loss, {tokens} tokens, batch {batch}",
            lambda n=tokens, b=batch, x=bound: pairwise_loss(bench, n, b, x),
        )
    yield "LAMB on PE G", lambda: lamb(bench)
    if importlib.util.find_spec("transformers"):
        yield "SAM 2.1-L teacher, 1,024 points, an image", lambda: sam(bench)
    model = functools.cache(lambda: aligner_of_g(bench))
    for batch, compiled in ((1, False),) if bench.tiny else G_STEPS:
        name = f"step of PE G from PE core G, batch {batch}{', compiled' * compiled}"
        yield name, lambda b=batch, c=compiled: step_of_g(bench, *model(), b, c)


def pairwise_loss(bench: Bench, tokens: int, batch: int, bound: float) -> Row:
    """Loss and gradient in float32."""
    generator = torch.Generator(bench.device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=bench.device)

    student = random(batch, tokens, 1536).requires_grad_()
    objects = random(5, 1024)[torch.arange(tokens, device=bench.device) * 5 // tokens]
    teacher = 0.3 * random(batch, tokens, 1024) + objects

    def gradient(loss: Callable) -> torch.Tensor:
        loss(student, teacher).backward()
        found, student.grad = student.grad, None
        return found

    equal = difference(gradient(pairwise_similarity_loss), gradient(plain_pairwise_loss))
    ours = bench.measure(lambda: gradient(pairwise_similarity_loss))
    bench.free()
    plain = bench.measure(lambda: gradient(plain_pairwise_loss))
    # Both symmetric products need half of their pairs, the gradient all of them.
    operations = 2.0 * batch * tokens**2 * ((1536 + 1024) / 2 + 1536)
    return bench.row(
        ours,
        plain,
        "N x N matrices",
        operations=operations,
        equal=equal,
        target=f"at most {bound} x plain, at most 0.5 x its memory"
        if bound == 1
        else "at most 0.7 x plain",
        note="float32; the floor is of bf16 products",
    )


def lamb(bench: Bench) -> Row:
    """One step for all tensors of PE G; beside it one tensor after the other."""
    from pe_dense.encoders.build import build_encoder

    with torch.device("meta"):
        tower = build_encoder("pe_spatial_t16_512" if bench.tiny else "pe_spatial_g14_448")
    shapes = [p.shape for p in tower.parameters()]
    generator = torch.Generator(bench.device).manual_seed(0)
    parameters = []
    for shape in shapes:
        value = torch.empty(shape, device=bench.device).normal_(0, 0.02, generator=generator)
        parameters.append(torch.nn.Parameter(value))
        parameters[-1].grad = torch.empty_like(value).normal_(generator=generator)
    optimizer = LAMB(parameters, lr=5e-4, betas=(0.9, 0.95), weight_decay=0.05)
    some = parameters[-40:]
    before = [p.detach().clone() for p in some]
    optimizer.step()
    fast = torch.cat([p.detach().flatten() for p in some])
    optimizer.state.clear()
    with torch.no_grad(), without_kernels():
        for parameter, value in zip(some, before, strict=True):
            parameter.copy_(value)
        optimizer.step()
        slow = torch.cat([p.detach().flatten() for p in some])
        plain = bench.measure(optimizer.step, repeats=3, warmup=1)
    ours = bench.measure(optimizer.step)
    return bench.row(
        ours,
        plain,
        "tensor by tensor",
        bytes_moved=28.0 * sum(p.numel() for p in parameters),
        equal=difference(fast, slow),
        target="at most 60 ms",
    )


def sam(bench: Bench) -> Row:
    """Time an image of a batch of 4, random weights; beside it transformers' own decoder."""
    network = random_sam(bench)
    side = 4 if bench.tiny else 32
    with mock.patch.object(sam_teacher, "load_sam", return_value=network), without_sha256():
        teacher = sam_teacher.SamTeacher(
            points_per_side=side, points_per_batch=1024, amp_dtype="bfloat16"
        )
    teacher.to(bench.device)
    batch, grid = (1, (8, 8)) if bench.tiny else (4, (32, 32))
    pixels = network.prompt_encoder.input_image_size
    images = torch.rand(batch, 3, pixels, pixels, device=bench.device)
    exact = sam_tokens_by_transformers(network, teacher, images[:1], grid, torch.float32)
    equal = difference(teacher(images, grid)[:1], exact)
    half = sam_tokens_by_transformers(network, teacher, images[:1], grid, torch.bfloat16)
    theirs = difference(half, exact)
    ours = bench.measure(lambda: teacher(images, grid), repeats=5, warmup=2)
    bench.free()
    plain = bench.measure(
        lambda: sam_tokens_by_transformers(network, teacher, images, grid, torch.bfloat16),
        repeats=3,
        warmup=1,
    )
    row = bench.row(
        ours,
        plain,
        "transformers' decoder",
        equal=f"{equal} (to float32)",
        target="at most 90 ms, 1e-2 of the range",
        note=f"random weights, batch {batch}, times by image; transformers' bf16: {theirs}",
    )
    for measured in (row.ours, row.plain):
        object.__setattr__(measured, "ms", measured.ms / batch)
    return row


def sam_tokens_by_transformers(
    network: Any, teacher: Any, images: torch.Tensor, grid: tuple[int, int], dtype: torch.dtype
) -> torch.Tensor:
    """What `SamTeacher` gives, by `Sam2Model.forward`, 256 points times images at once."""
    device, half = images.device.type, dtype != torch.float32
    parts = []
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=half):
        pixels = frozen_teacher.normalised(images, sam_teacher.MEAN, sam_teacher.STD)
        features = network.get_image_embeddings(pixels)
        points = teacher.points_P2 * images.shape[-1]
        for some in points.split(max(1, (1024 if half else 64) // len(images))):
            masks = network(
                image_embeddings=features,
                input_points=some.expand(len(images), -1, -1)[:, :, None],
                multimask_output=False,
            ).pred_masks[:, :, 0]
            parts.append(frozen_teacher.resample(masks.clamp(-32, 32).float(), grid, "area"))
    return torch.cat(parts, dim=1).flatten(2).transpose(1, 2)


def random_sam(bench: Bench) -> Any:
    """SAM 2.1-L, or a tiny one, of random weights whose logits reach beyond 0 on both sides."""
    from transformers import Sam2Config, Sam2Model

    if bench.tiny:
        stages = dict(
            hidden_size=8,
            image_size=[128, 128],
            blocks_per_stage=[1, 1, 2, 1],
            embed_dim_per_stage=[8, 16, 32, 64],
            num_attention_heads_per_stage=[1, 1, 1, 1],
            window_size_per_stage=[8, 4, 4, 4],
            global_attention_blocks=[3],
        )
        config = Sam2Config(
            vision_config=dict(
                backbone_config=dict(stages, model_type="sam2_hiera_det_model"),
                backbone_channel_list=[64, 32, 16, 8],
                backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
                fpn_hidden_size=32,
            ),
            prompt_encoder_config=dict(hidden_size=32, image_size=128, patch_size=16),
            mask_decoder_config=dict(
                hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
            ),
        )
    else:
        stages = dict(
            hidden_size=144,
            num_attention_heads=2,
            blocks_per_stage=[2, 6, 36, 4],
            embed_dim_per_stage=[144, 288, 576, 1152],
            num_attention_heads_per_stage=[2, 4, 8, 16],
            window_size_per_stage=[8, 4, 16, 8],
            global_attention_blocks=[23, 33, 43],
        )
        config = Sam2Config(
            vision_config=dict(
                backbone_config=dict(stages, model_type="sam2_hiera_det_model"),
                backbone_channel_list=[1152, 576, 288, 144],
            )
        )
    torch.manual_seed(0)
    with torch.device(bench.device):
        network = Sam2Model(config).eval()
    with torch.no_grad():
        for head in network.mask_decoder.output_hypernetworks_mlps:
            head.proj_out.weight.mul_(50)
    return network.to(bench.device)


def aligner_of_g(bench: Bench) -> tuple[Any, LAMB]:
    """Masked student that recomputes its blocks, frozen teacher in bf16; LAMB with its moments."""
    student, teacher, layer = (
        ("pe_spatial_t16_512", "pe_core_t16_384", 8)
        if bench.tiny
        else ("pe_spatial_g14_448", "pe_core_g14_448", 40)
    )
    torch.manual_seed(0)
    with torch.device(bench.device), without_sha256():
        model = MODELS.build(
            dict(
                type="SpatialAligner",
                backbone=dict(
                    type="DenseBackbone",
                    encoder=student,
                    out_indices=(-1,),
                    amp_dtype="bfloat16",
                    grad_checkpointing=True,
                    encoder_options=dict(drop_path_rate=0.4),
                ),
                teachers=[
                    dict(
                        name="core",
                        type="EncoderTeacher",
                        encoder=teacher,
                        weights="random",
                        layer=layer,
                        network_dtype="bfloat16",
                    )
                ],
                losses=[dict(name="core", teacher="core", type="TokenCosineLoss")],
                masking=dict(ratio=0.75, block_size=2, token="zero"),
            )
        )
    model = model.to(bench.device).train()
    optimizer = LAMB(model.parameters(), lr=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # its moments count in the memory
    return model, optimizer


def step_of_g(bench: Bench, model: Any, optimizer: LAMB, batch: int, compiled: bool) -> Row:
    """Losses and gradients, without LAMB's step (it has a row of its own)."""
    assert optimizer.state
    model.backbone.encoder.set_compile_blocks(compiled)
    side = 64 if bench.tiny else 448
    images = torch.rand(batch, 3, side, side, device=bench.device)

    def step() -> None:
        sum(model.loss(images, None).values()).backward()

    begin = time.perf_counter()
    step()
    bench.synchronize()
    waited = time.perf_counter() - begin
    ours = bench.measure(step, repeats=1 if batch > 8 else 4, warmup=1)
    teacher = model.teachers["core"].network.encoder
    # Forward, recomputation, and two products for each of the forward pass in the backward one.
    operations = 4 * encoder_operations(model.backbone.encoder, side)
    operations += encoder_operations(teacher, side)
    return bench.row(
        ours,
        operations=batch * operations,
        target="0.45 of the matrix peak" if not bench.tiny else "",
        note=f"{1e3 * batch / ours.ms:.1f} images/s, first step {waited:.0f} s",
    )


def without_sha256() -> Any:
    """Random weights of gigabytes need no name that lasts."""
    return mock.patch.object(frozen_teacher, "state_sha256", return_value="0" * 64)
