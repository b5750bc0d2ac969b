"""Learning rates that headers of configs give for fewer GPUs, against the rule that they state."""

import math
import re
from pathlib import Path

import pytest

from pe_dense.run.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs/detection"
OPTIONS = re.compile(r"--cfg-options lr=(\S+) batch_size=(\d+)")
HEADERS = {
    path.name: text
    for path in sorted(CONFIGS.glob("*.py"))
    if OPTIONS.search(text := path.read_text().split('"""')[1])
}


def test_there_is_such_a_header():
    assert "deta_pe_b16_coco_12ep.py" in HEADERS


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_the_rate_for_one_gpu_follows_the_stated_rule(name):
    cfg, _ = load_config(CONFIGS / name, weights="random")
    assert "square root of the batch" in HEADERS[name]
    lr, batch = OPTIONS.search(HEADERS[name]).groups()
    expected = cfg.lr * math.sqrt(int(batch) / (cfg.batch_size * cfg.processes))
    assert float(lr) == pytest.approx(expected, rel=0.02)
    assert cfg.optim_wrapper.optimizer.lr == cfg.lr
