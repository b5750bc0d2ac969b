"""Fixtures of all tests: one torch thread, a small generated data set, a real one if it is here."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pe_dense  # noqa: F401  before mmcv: answers for its compiled operators

REPO = Path(__file__).resolve().parents[1]
# Processes that work side by side, and the tools that they start, have one thread each.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
if os.environ.get("CUDA_VISIBLE_DEVICES") == "":  # as `make test` does: kernels through triton's
    os.environ.setdefault("TRITON_INTERPRET", "1")  # interpreter, which reads this once, at import


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: started last, they would keep one process busy alone."""
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Threads that compete for cores make small tensors many times slower."""
    with contextlib.suppress(ModuleNotFoundError):  # the tests of results need no torch
        import torch

        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_run_is_left() -> Iterator[None]:
    """A test that ran a config leaves no default registry and no silent logger to the next one."""
    yield
    if "mmengine.registry.default_scope" in sys.modules:
        sys.modules["mmengine.registry.default_scope"].DefaultScope._instance_dict.clear()
    if "mmengine.logging" in sys.modules:
        for logger in sys.modules["mmengine.logging"].MMLogger._instance_dict.values():
            logger.setLevel(logging.INFO)


@pytest.fixture(scope="session")
def bccd_root() -> Path:
    """The BCCD data set, from PE_DENSE_BCCD or shared/data/bccd beside the repository."""
    root = Path(os.environ.get("PE_DENSE_BCCD", REPO.parent / "shared" / "data" / "bccd"))
    if not (root / "annotations" / "val.json").is_file():
        pytest.skip("BCCD is not here; set PE_DENSE_BCCD to its folder")
    return root


@pytest.fixture(scope="session")
def mini_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated mini world of 12 training and 6 validation pictures; read it, never write."""
    for module in ("cv2", "PIL", "pycocotools"):
        pytest.importorskip(module)
    from pe_dense.mini_world.formats import MiniWorldConfig, build_mini_world

    root = tmp_path_factory.mktemp("data") / "mini"
    config = MiniWorldConfig(seed=1, train=12, val=6, clips=2, frames=4, image_size=128)
    build_mini_world(root, config)
    return root
