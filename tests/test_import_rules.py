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

TASKS = (
    "detection", "segmentation", "depth", "tracking", "probing", "alignment", "zero_shot",
    "analysis",
)  # fmt: skip
# The floors of the package, from the ground up: what each part may import besides itself.
MAY_IMPORT = {
    "files": set(),
    "kernels": set(),
    "results": {"files"},
    "encoders": {"files", "kernels"},
    "data": {"files"},
    "mini_world": {"files", "data", "pictures"},
    "pictures": {"files"},
    "pixelwise": {"kernels", "results"},
    "openmmlab": {"data", "encoders", "files", "kernels"},
    "text_dense": {"encoders", "files"},
}
BUILDING_BLOCKS = set(MAY_IMPORT)
MAY_IMPORT |= dict.fromkeys(TASKS, BUILDING_BLOCKS)
MAY_IMPORT["__main__"] = {"run"}
MAY_IMPORT["run"] = {"files", "data", "encoders", "openmmlab", "results"}
MAY_IMPORT["suites"] = {"files", "encoders", "pictures", "results", "run"}
MAY_IMPORT["predict"] = {"run", *TASKS, *BUILDING_BLOCKS}
MAY_IMPORT["report"] = {"run", *TASKS, *BUILDING_BLOCKS}
MAY_IMPORT["export"] = {"predict", "run", *TASKS, *BUILDING_BLOCKS}
OPEN_MMLAB = {"mmengine", "mmcv", "mmdet", "mmseg"}
ONLY_IN = {
    "mmdet": {"detection", "export", "tracking", "openmmlab"},
    "mmseg": {"segmentation", "depth", "export", "openmmlab"},
}


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
    assert {"run", "encoders", "results", "detection"} <= {part_of(path) for path in FILES}
    assert inner_parts(PACKAGE / "run/evaluation.py") == {"run", "results", "openmmlab"}
    assert "mmdet" in outer_packages(PACKAGE / "detection/deta.py")


def test_nothing_lies_loose_at_the_top() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "files.py",
    }


def dotted_name(path: Path) -> str:
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted_name(path): path for path in FILES}


def file_imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, the file of each name rather than its folder."""
    found = set()
    for name in imports(path):
        inside = name if name in MODULES else name.rpartition(".")[0]
        found |= {inside} & MODULES.keys()
    return found - {dotted_name(path)}


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that reach themselves through what they import."""
    reach = {name: set(found) for name, found in graph.items()}
    for middle in graph:
        for name in graph:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    return sorted(name for name, found in reach.items() if name in found)


def test_no_files_import_each_other() -> None:
    graph = {name: file_imports(path) for name, path in MODULES.items()}
    assert len(graph["pe_dense.run.evaluation"]) > 5
    assert cycles(graph) == []


def test_the_search_for_cycles_finds_one() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


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
    if part in ("encoders", "files", "pictures", "results", "mini_world"):
        assert not outer & OPEN_MMLAB
    if part in ("files", "pictures", "results"):
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
    if "_base_" in path.relative_to(REPO).parts:
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
    "module",
    [
        "pe_dense",
        "pe_dense.encoders.contract",
        "pe_dense.encoders.zoo",
        "pe_dense.results.store",
        "pe_dense.run.console",
    ],
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
