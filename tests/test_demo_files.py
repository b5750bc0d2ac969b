"""The notebook and the Dockerfile of the demo: whole, and in step with the repository."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
NOTEBOOK = json.loads((REPO / "docs" / "demo.ipynb").read_text(encoding="utf-8"))
DOCKERFILE = (REPO / "Dockerfile").read_text(encoding="utf-8")
SMALL = "IMAGES, SCORED, EPOCHS = 8, 4, 1"


def steps(name: str) -> list[str]:
    """What follows one kind of instruction, continued lines joined."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE.replace("\\\n", ""), re.MULTILINE)


def code_cells() -> list[str]:
    return ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]


def test_the_notebook_has_the_form_of_one_and_no_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len({*names}) == len(names) and all(re.fullmatch(r"[\w-]{1,64}", n) for n in names)
    for cell in NOTEBOOK["cells"]:
        wanted = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            wanted |= {"execution_count", "outputs"}
            assert cell["outputs"] == [] and cell["execution_count"] is None
            compile("".join(cell["source"]), cell["id"], "exec")
        assert cell.keys() == wanted and all(isinstance(line, str) for line in cell["source"])


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs(tmp_path, monkeypatch, capsys) -> None:
    """With a few pictures and one epoch, one cell after another as a kernel does."""
    pytest.importorskip("mmdet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    cells = code_cells()
    settings = re.sub(r"^IMAGES, SCORED, EPOCHS = .+$", SMALL, cells[0], flags=re.MULTILINE)
    assert SMALL in settings
    names: dict[str, object] = {}
    for source in (settings, *cells[1:]):
        exec(compile(source, "cell", "exec"), names)
    said = capsys.readouterr().out
    assert "Measured" in said and "pe_spatial_t16_512" in said
    assert list((tmp_path / "work_dirs/records").rglob("*.json"))
    assert names["Path"]("pictures").is_dir()


def test_what_the_dockerfile_copies_is_there_and_reaches_docker() -> None:
    allowed = {
        line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    copied = {name for line in steps("COPY") for name in line.split()[:-1]}
    assert copied == allowed
    assert all((REPO / name).exists() for name in copied)
    # What building a wheel reads: setup.py names these, and MANIFEST.in those of the archive.
    assert {"pe_dense", "tools", "configs", "benchmarks/protocols.json", "setup.py"} <= copied


def test_the_container_has_no_compiler_no_root_and_one_list_of_versions() -> None:
    assert not re.search(r"apt-get|build-essential|g\+\+|gcc", DOCKERFILE)
    assert DOCKERFILE.index("\nUSER user") < DOCKERFILE.index("\nCMD ")
    assert steps("CMD") == ['["pe-dense", "demo"]']
    assert not re.search(r"[=<>]=\d", DOCKERFILE)
    [first, _] = steps("RUN")
    assert "/src[tested]" in shlex.split(first)
    assert (REPO / "tools/demo.py").is_file()
