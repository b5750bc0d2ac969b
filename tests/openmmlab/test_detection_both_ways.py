"""Where mmcv's operators are compiled, detection is tested with them and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pe_dense.openmmlab import compiled_operators

ROOT = Path(__file__).resolve().parents[2]
# What compares detectors with arrays of their references: scores, boxes, losses, gradients.
COMPARED = (
    "tests/detection/test_deta_golden.py",
    "tests/detection/test_vitdet.py",
    "tests/detection/test_vitdet_reference_steps.py",
    "tests/detection/test_proposals.py",
)


@pytest.mark.slow
def test_detection_without_the_compiled_operators() -> None:
    if not compiled_operators.work_on("cpu"):
        pytest.skip("without compiled operators every test is one of the PyTorch forms")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *COMPARED],
        cwd=ROOT, env={**os.environ, compiled_operators.VARIABLE: "off"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
