"""Small PE towers, files of their weights, and what a refusal looks like."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.encoders.weights import load_weights

SPATIAL = dict(
    patch_size=4, embed_dim=16, depth=3, num_heads=2, mlp_hidden=40, image_size=16, cls_token=True
)
CORE = dict(SPATIAL, pool_heads=2, output_dim=12)
DETECTION = dict(SPATIAL, cls_token=False, window_size=2, rope_grid=4)


def tower_of(seed=0, **arch):
    torch.manual_seed(seed)
    tower = PerceptionEncoder(**arch).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return tower


def snapshot(tower):
    return {key: value.clone() for key, value in tower.state_dict().items()}


def assert_equal_states(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def save(path, content):
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def assert_refused(tower, path, words, **options):
    """One sentence that names the file, and a tower that has not changed."""
    before = snapshot(tower)
    with pytest.raises(ValueError, match=words) as caught:
        load_weights(tower, path, **options)
    message = str(caught.value)
    assert Path(path).name in message
    assert "\n" not in message
    assert_equal_states(tower.state_dict(), before)
    return message
