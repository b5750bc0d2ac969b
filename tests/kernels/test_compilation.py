"""Kernels compile for a GPU, which triton does without having one.

The interpreter runs what no compiler takes (a variable that changes its type in a loop, say), so
equality there is not enough.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
REPO = Path(__file__).resolve().parents[2]

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

def compiled(kernel, options=None, **arguments):
    '''Machine code for compute capability 9.0; arguments are types ('*fp32') or constants.'''
    types = {name: a if isinstance(a, str) else "constexpr" for name, a in arguments.items()}
    constants = {name: a for name, a in arguments.items() if not isinstance(a, str)}
    aligned = {(i,): [["tt.divisibility", 16]] for i, t in enumerate(types.values()) if t[0] == "*"}
    source = ASTSource(kernel, types, constants, aligned)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options or {})
    assert len(made.asm["cubin"]) > 0
    return made.asm["ptx"]

def pixelwise(kernel, module, integers=(), **others):
    '''PTX of a kernel over pixels; tensors are float32 where nothing else is said.'''
    kinds = dict.fromkeys(kernel.arg_names, "*fp32") | dict.fromkeys(integers, "*i32")
    kinds |= {name: "i32" for name in module.SIZES if name in kinds} | others
    return compiled(kernel, dict(num_warps=1), **kinds)
"""

PROGRAMS = {
    "upsampled loss": """
from pe_dense.pixelwise import upsampled_loss_kernel as module
cells = "first_y", "first_x", "first_tile"
for tokens, labels, ignored in (("*fp32", "*u8", 255), ("*bf16", "*i32", -1)):
    for pixels in (1, 4, 16):
        of_all = dict(
            tokens=tokens, labels=labels, NUM_CLASSES=150, PIXELS=pixels, LANES=module.LANES
        )
        pixelwise(
            module.log_sum_kernel, module, cells, safe_spread="fp32", IGNORED=ignored,
            CELLS=module.CELLS, **of_all,
        )
        for one_hot in (False, True):
            for adds in (False, True):
                ptx = pixelwise(
                    module.gradient_kernel, module, cells, ONE_HOT=one_hot, ADDS=adds, **of_all
                )
                if not one_hot and pixels == 16:  # four numbers in one access, fast exponentials
                    assert "ld.global.v4" in ptx and "ex2.approx.ftz" in ptx
""",
    "expected depth": """
from pe_dense.pixelwise import expected_depth_kernel as module
cells = "first_y", "first_x", "first_tile"
for norm in module.NORMS.values():
    of_all = dict(NUM_BINS=256, NORM=norm, PIXELS=4, LANES=module.LANES)
    pixelwise(module.depth_kernel, module, cells, offset="fp32", CELLS=module.CELLS, **of_all)
    for adds in (False, True):
        pixelwise(module.gradient_kernel, module, cells, ADDS=adds, **of_all)
""",
    "labels of windows": """
from pe_dense.pixelwise import window_labels_kernel as module
taps = "tap_from", "tap_to", "window_from", "window_to"
pixelwise(
    module.labels_kernel, module, taps, labels="*i64", ROWS=module.ROWS,
    BLOCK_CLASSES=module.BLOCK_CLASSES, BLOCK_COLUMNS=module.BLOCK_COLUMNS,
)
""",
    "trial": """
from pe_dense.kernels.trial_kernel import _add_one
compiled(_add_one, source="*fp32", target="*fp32", size="i32", BLOCK=32)
""",
    "grouped NMS": """
from pe_dense.detection.grouped_nms_kernel import BLOCK, _suppress
compiled(
    _suppress, dict(enable_fp_fusion=False), boxes="*fp32", groups="*i64", ends="*i64", kept="*i8",
    threshold="fp32", BLOCK=BLOCK,
)
""",
    "deformable attention": """
from pe_dense.openmmlab import deformable_attention_kernel as module
sizes = dict(N="i32", Q="i32", M=8, D=32, D_PADDED=32, L=5, P=4, BLOCK=module.BLOCK_Q)
for half in ("*fp32", "*bf16"):
    inputs = dict(values=half, shapes="*i64", locations=half, weights=half)
    loads = compiled(module._forward, **inputs, output=half, **sizes)
    grads = dict(grad_output=half, grad_values="*fp32", grad_locations=half, grad_weights=half)
    ptx = compiled(module._backward, **inputs, **grads, **sizes)
    # Four channels in one access: this is what its speed comes from.
    assert ptx.count("atom.global") == ptx.count(".v4.f32") > 0
    assert "ld.global.v" in loads
    # A sample at nan is nan: plain `max` drops it on a GPU, though not in the interpreter.
    for code in (loads, ptx):
        assert "max.NaN.f32" in code and "min.NaN.f32" in code
""",
    "label propagation": """
from pe_dense.tracking import propagation_kernel as module
from pe_dense.tracking import propagation_on_gpu as launch
numbers = dict.fromkeys(module.PLACES, "i32")
tile_h, tile_w = launch.TILE_HW
tile = dict(TILE_H=tile_h, TILE_W=tile_w, BLOCK_KEYS=module.BLOCK_KEYS)
scales = dict(SCALE=module.SCALE, LOW_SCALE=module.LOW_SCALE)
for frame in ("*fp32", "*bf16", "*fp16"):
    compiled(
        module.unit_halves, frame_ptr=frame, halves_ptr="*fp16", refused_ptr="*i32", number="i32",
        stride_y="i32", stride_x="i32", stride_c="i32", w="i32", width="i32", **scales,
        P=768, BLOCK=1024,
    )
ptx = compiled(
    module.tile_similarities, dict(num_warps=launch.WARPS, num_stages=launch.STAGES),
    halves_ptr="*fp16", similarity_ptr="*fp32", bound_ptr="*fp32", **numbers,
    UNSCALE=module.SCALE**-2, LOW_UNSCALE=1 / module.LOW_SCALE, P=768, **tile,
    BLOCK_P=launch.BLOCK_WIDTH,
)
assert ptx.count("wgmma.mma_async") > 0  # the tensor cores' own instruction
for bounds, warps in ((64, 1), (2048, 4)):
    compiled(
        module.gather_labels, dict(num_warps=warps), similarity_ptr="*fp32", bound_ptr="*fp32",
        labels_ptr="*fp32", out_ptr="*fp32", refused_ptr="*i32", options_ptr="*i32",
        temperature_ptr="*fp32", **numbers, num_labels="i32", **tile, BLOCK_BOUNDS=bounds,
        BLOCK_C=4,
    )
""",
    "J and F": """
from pe_dense.tracking import scores_kernel as module
from pe_dense.tracking.scores_on_gpu import BLOCK
compiled(
    module.count_pixels, annotation_ptr="*u8", prediction_ptr="*u8", edge_ptr="*u8",
    counts_ptr="*i32", first_map="i32", maps_per_annotation="i32", height="i32", width="i32",
    BLOCK=BLOCK,
)
compiled(
    module.count_near, edge_ptr="*u8", counts_ptr="*i32", height="i32", width="i32", radius="i32",
    BLOCK=BLOCK,
)
""",
}


PROGRAMS |= {
    "LAMB": """
import triton.language as tl
from pe_dense.alignment import lamb_kernel as module
table = dict(addresses="*i64", numbers="*fp32", count="i32", tensors="*i32", firsts="*i32")
sizes = dict(CHUNK=module.CHUNK, BLOCK=module.BLOCK)
options = dict(num_warps=module.WARPS)
for kind in (tl.float32, tl.bfloat16):
    ptx = compiled(
        module._moments, options, **table, parts="*fp32", num_chunks="i32", P_TYPE=kind,
        G_TYPE=kind, **sizes,
    )
    assert "ld.global.v4.b32" in ptx  # addresses from a table, and still 16 bytes at a time
    compiled(module._apply, options, **table, squares="*fp32", P_TYPE=kind, **sizes)
compiled(
    module._add_up, parts="*fp32", firsts="*i32", squares="*fp32", num_chunks="i32", count="i32",
    MOST=300, BLOCK=256,
)
""",
    "errors of pairs": """
from pe_dense.alignment import pairwise_kernel as module
tensors = dict.fromkeys(["products", "targets", "inverses", "target_inverses", "parts"], "*fp32")
sizes = dict.fromkeys(["height", "width", "tokens", "first_row", "first_column"], "i32")
for writes in (True, False):
    for skips in (True, False):
        compiled(
            module._errors, **tensors, **sizes, temperature="fp32", scale="fp32", WRITES=writes,
            SKIPS=skips, HEIGHT=module.HEIGHT, COLUMNS=module.COLUMNS,
        )
""",
    "masks of SAM": """
from pe_dense.alignment import sam_upscaling_kernel as module
whole = {"norm_weight", "norm_bias", "kernels"}
names = "image first fine norm_weight norm_bias second finest kernels masks".split()
tensors = {name: "*fp32" if name in whole else "*bf16" for name in names}
for masks in (1, 2):
    ptx = compiled(
        module._upscale, **tensors, eps="fp32", tokens="i32", width="i32", K=masks, C=256, E=64,
        F=32, TILE=module.TILE,
    )
    assert "wgmma.mma_async" in ptx
""",
    "rotation": """
from pe_dense.encoders import rotation_kernel as module
for columns in (512, 1024):
    compiled(
        module._turn, qkv="*bf16", table="*fp32", batch="i32", tokens="i32", width="i32",
        head_dim="i32", sign="fp32", ROWS=module.ROWS, COLUMNS=columns, IMAGES=module.IMAGES,
    )
""",
    "sum and norm": """
from pe_dense.encoders import residual_norm_kernel as module
half, sizes = "*bf16", dict.fromkeys(["rows", "base_rows", "shift_rows", "channels"], "i32")
names = ["branch", "gain", "weight", "bias", "shift", "sums", "norms", "shifted"]
uses = [
    ["branch", "weight", "bias", "shift", "norms", "shifted"],  # SAM's image tokens
    ["branch", "gain", "weight", "bias", "sums", "norms"],
    ["branch", "weight", "bias", "sums", "norms"],
    ["branch", "sums"],
    ["weight", "bias", "norms"],
]
for columns in (256, 1024, 2048):
    for used in uses:
        compiled(
            module._sum_and_norm, base=half, **{n: half if n in used else None for n in names},
            **sizes, eps="fp32", HEIGHT=module.TILE // columns, COLUMNS=columns,
        )
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_compile_without_a_gpu(name: str, tmp_path: Path) -> None:
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(REPO), *sys.path]),
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(tmp_path),
    }
    program = tmp_path / "program.py"  # triton reads kernels from files
    program.write_text(COMPILE + PROGRAMS[name])
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
