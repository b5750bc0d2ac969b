"""The folder that a run writes into unless it is told one."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from pe_dense.run.request import RunRequest

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [
    file.relative_to(ROOT)
    for file in sorted((ROOT / "configs").glob("*/*.py"))
    if file.parent.name not in ("_base_", "suites")
]


def folder(config: str | Path) -> str:
    return RunRequest(str(config)).default_work_dir().as_posix()


def test_no_two_configs_share_a_folder() -> None:
    counts = Counter(map(folder, CONFIGS))
    assert len(CONFIGS) > 50 and max(counts.values()) == 1, counts.most_common(3)
    assert folder("configs/segmentation/linear_custom.py") == "work_dirs/linear_custom"
    assert folder("configs/depth/linear_custom.py") == "work_dirs/depth_linear_custom"
    assert folder(ROOT / "configs/depth/linear_custom.py") == "work_dirs/depth_linear_custom"


def test_own_configs_are_called_as_their_file(tmp_path: Path, monkeypatch) -> None:
    assert folder("depth/linear_custom.py") == "work_dirs/linear_custom"
    for task in ("segmentation", "depth"):
        (tmp_path / task).mkdir()
        (tmp_path / task / "street.py").write_text("")
    assert folder(tmp_path / "depth/street.py") == "work_dirs/depth_street"
    monkeypatch.chdir(tmp_path / "depth")
    assert folder("street.py") == "work_dirs/depth_street"


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_what_a_config_says_of_its_folder_is_true(config: Path) -> None:
    text = ast.get_docstring(ast.parse((ROOT / config).read_text(encoding="utf-8"))) or ""
    own = folder(config)
    for named in re.findall(r"work_dirs/[\w+=.-]+", text.partition("Expected:")[0]):
        if named not in set(map(folder, CONFIGS)) - {own}:  # a detector that a tracker takes
            assert named == own or named.startswith(own + "-"), text
