"""Training and evaluation called as tools/train.py and tools/test.py call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pe_dense.run import evaluation, training
from pe_dense.run.request import RunRequest


def train(config: str | Path, *asked: Any, resume: bool = False, **named: Any) -> Any:
    return training.train(RunRequest(str(config), *asked, **named), resume)


def evaluate(
    config: str | Path,
    checkpoint: Path | None = None,
    records: Path | None = None,
    supersede: bool = False,
    **named: Any,
) -> dict[str, float]:
    argv = named.pop("argv", ["tools/test.py"])
    request = RunRequest(str(config), argv=argv, **named)
    return evaluation.evaluate(request, checkpoint, records, supersede)
