"""The layers of the package: who may import whom, read from the source with ast."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "pe_dense"
FILES = sorted(PACKAGE.rglob("*.py"))
TOOLS = sorted((REPO / "tools").glob("*.py"))
MAX_LINES = 580  # the PE tower is one file by design

TASKS = {"detection", "segmentation", "depth", "tracking", "alignment", "probing", "analysis"}
BUILDING_BLOCKS = {"types", "encoders", "data", "necks", "pixelwise", "layer_decay", "runtime"}
# What each part may import of the package besides itself; a part is a folder or a module.
MAY_IMPORT = {
    "types": set(),
    "command_line": {"processes"},
    "results": set(),
    "runtime": {"encoders"},
    "layer_decay": set(),
    "processes": set(),
    "sharding": set(),
    "encoders": {"types"},
    "necks": {"types"},
    "pixelwise": {"results"},
    "data": {"types"},
    "experiment": {"types", "encoders"},
    "training": {"types", "encoders", "experiment", "results", "runtime", "sharding"},
    "recording": {"results"},
    "evaluation": {
        "types",
        "encoders",
        "experiment",
        "recording",
        "results",
        "runtime",
        "training",
    },
    "benchmark": {"encoders", "experiment", "results", "training"},
    "protocol_hashes": {"experiment", "results", "training"},
    **{task: BUILDING_BLOCKS | {"results"} for task in TASKS},
}
OPEN_MMLAB = {"mmengine", "mmcv", "mmdet", "mmseg"}
ONLY_IN = {"mmdet": {"detection", "tracking"}, "mmseg": {"segmentation", "depth"}}


def part_of(path: Path) -> str:
    """First name below the package: 'encoders' of encoders/pe.py, 'types' of types.py."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all imports, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inner_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports."""
    dotted = (name.split(".") for name in imports(path))
    return {words[1] for words in dotted if words[0] == "pe_dense" and len(words) > 1}


def outer_packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - {"pe_dense"}


def named(path: Path) -> str:
    return str(path.relative_to(REPO))


each_file = pytest.mark.parametrize("path", FILES, ids=named)


def test_the_rules_see_the_package() -> None:
    assert {"types", "encoders", "results", "detection"} <= {part_of(path) for path in FILES}
    assert inner_parts(PACKAGE / "evaluation.py") >= {"training", "results", "encoders"}
    assert "mmdet" not in outer_packages(PACKAGE / "types.py")


@each_file
def test_imports_point_downwards(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        assert inner_parts(path) == set()
        return
    assert part in MAY_IMPORT, f"{part} is new: state in MAY_IMPORT what it may import"
    assert inner_parts(path) <= MAY_IMPORT[part] | {part}


@each_file
def test_openmmlab_stays_at_its_border(path: Path) -> None:
    part, outer = part_of(path), outer_packages(path)
    for package, parts in ONLY_IN.items():
        assert package not in outer or part in parts, f"{package} belongs in {parts}"
    if part == "encoders" and path.name != "backbone.py":
        assert not outer & OPEN_MMLAB
    if part in ("types", "command_line", "results"):
        assert not outer & OPEN_MMLAB
    if part == "results":
        assert "torch" not in outer


@each_file
def test_files_are_named_by_what_they_hold_and_short(path: Path) -> None:
    words = path.relative_to(PACKAGE).with_suffix("").parts
    assert not {"utils", "util", "misc", "common", "helpers", "legacy", "v2"} & set(words)
    text = path.read_text(encoding="utf-8")
    assert text.isascii()
    assert len(text.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", sorted((REPO / "configs").rglob("*.py")), ids=named)
def test_configs_inherit_one_level_deep(path: Path) -> None:
    """_base_ files have no base of their own; nothing in configs imports code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not list(imports(path))
    if path.parent.name == "_base_":
        names = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert "_base_" not in names


def loaded_after(code: str, *arguments: str) -> tuple[subprocess.CompletedProcess, set[str]]:
    """Run code in a fresh Python; also return which heavy packages it loaded."""
    report = (
        "\nfinally:\n print('LOADED', *({'torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'timm'}"
        " & set(sys.modules)))"
    )
    body = "import runpy, sys\ntry:\n " + code + report
    done = subprocess.run(
        [sys.executable, "-c", body, *arguments],
        cwd=REPO, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    *_, last = done.stdout.strip().splitlines()
    assert last.startswith("LOADED"), done.stdout + done.stderr
    return done, set(last.split()[1:])


@pytest.mark.parametrize(
    "module", ["pe_dense", "pe_dense.types", "pe_dense.encoders.zoo", "pe_dense.results.store"]
)
def test_importing_is_cheap(module: str) -> None:
    done, loaded = loaded_after(f"import {module}")
    assert done.returncode == 0, done.stderr
    assert not loaded


def test_the_check_of_loaded_packages_can_fail() -> None:
    assert "torch" in loaded_after("import pe_dense.encoders.pe")[1]


@pytest.mark.parametrize("tool", TOOLS, ids=named)
def test_help_loads_nothing_heavy(tool: Path) -> None:
    code = (  # what `python tools/x.py --help` does, with the folder of the script on the path
        f"sys.path.insert(0, {str(tool.parent)!r}); sys.argv = [{str(tool)!r}, '--help']; "
        f"runpy.run_path({str(tool)!r}, None, '__main__')"
    )
    done, loaded = loaded_after(code)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout and not done.stderr
    assert not loaded
