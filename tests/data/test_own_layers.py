"""A recipe that reads several layers says that nobody chose them, and how one is chosen."""

import shlex
from pathlib import Path

import pytest

from pe_dense.data.own_layers import layers_in_words

ROOT = Path(__file__).resolve().parents[2]
READS_FOUR = dict(
    layers=[2, 5, 8, 11], num_layers=4, tune="frozen", encoder="timm:vit_small", weights="a b.pt",
    data_root="my street",
)  # fmt: skip


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_the_command_can_be_pasted(task: str) -> None:
    first, command, last = layers_in_words(READS_FOUR, task).splitlines()
    assert "[2, 5, 8, 11], not chosen by these data" in first
    words = shlex.split(command)
    assert words[:2] == ["python", "tools/train.py"] and (ROOT / words[2]).is_file()
    assert words[2] == f"configs/probing/{task}_custom.py"
    assert words[3:] == [
        "--encoder", "timm:vit_small", "--weights", "a b.pt", "--cfg-options",
        "data_root=my street",
    ]  # fmt: skip
    assert shlex.split(last)[-2:] == ["layers=[N]", "num_layers=1"]


@pytest.mark.parametrize("change", [{"num_layers": 1}, {"num_layers": None}, {"tune": "lora"}])
def test_a_layer_that_was_chosen_or_is_trained_is_nobodys_business(change: dict) -> None:
    assert layers_in_words(READS_FOUR | change, "depth") == ""
