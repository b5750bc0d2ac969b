"""Training and evaluation called as tools/train.py and tools/test.py call them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pe_dense.run import evaluation, training
from pe_dense.run.request import RunRequest


def without_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what MMEngine does beside a run, half the time of a small one.

    That is yapf over every config that is dumped, and a whole garbage collection for every data set
    that is built.
    """
    monkeypatch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, True))
    monkeypatch.setattr("mmengine.dataset.base_dataset.gc", SimpleNamespace(collect=int))


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
