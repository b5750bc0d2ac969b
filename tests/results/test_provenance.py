"""Provenance: hashes that are stable, states that are true, commands without machine paths."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest

from pe_dense.files import atomic_write_bytes, atomic_write_text, file_sha256
from pe_dense.results import provenance
from pe_dense.results.provenance import (
    command_line,
    git_state,
    hardware,
    library_versions,
    peak_memory_gib,
    utc_now,
)
from pe_dense.run.protocol import config_sha256

ROOT = Path(__file__).resolve().parents[2]
CHECKED_OUT = ("pe_dense", "tools", "benchmarks", "docs", "setup.py", "README.md", ".gitignore")


def test_file_sha256(tmp_path):
    data = bytes(range(256)) * 5000  # more than one chunk
    (tmp_path / "f").write_bytes(data)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(data).hexdigest()


def test_config_sha256_is_the_hash_of_canonical_json():
    text = b'{"a":[1,2.5,null,true],"b":{"c":"\\u00e9"}}'
    config = {"b": {"c": "\u00e9"}, "a": (1, 2.5, None, True)}
    assert config_sha256(config) == hashlib.sha256(text).hexdigest()


def test_config_sha256_ignores_order_and_nothing_else():
    base = {"a": 1, "b": {"c": [1, 2], "d": "x"}}
    same = OrderedDict(b={"d": "x", "c": (1, 2)}, a=1)
    assert config_sha256(base) == config_sha256(same)
    others = [
        {**base, "a": 2},
        {**base, "a": 1.0},
        {**base, "a": True},
        {**base, "a": "1"},
        {**base, "work_dir": None},
        {"a": 1, "b": {"c": [2, 1], "d": "x"}},
        {},
    ]
    assert len({config_sha256(config) for config in [base, *others]}) == 1 + len(others)


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"model": {"out": [1, {2}]}}, "'model.out[1]'"),
        ({"type": int}, "'type'"),
        ({"lr": float("nan")}, "'lr'"),
        ({"path": Path("x")}, "'path'"),
        ({"map": {1: "a"}}, "'map'"),
        ({"data": b"x"}, "'data'"),
    ],
)
def test_config_sha256_names_what_json_cannot_hold(config, place):
    with pytest.raises(ValueError, match=re.escape(place)):
        config_sha256(config)


def test_config_sha256_refuses_other_objects_and_cycles():
    with pytest.raises(ValueError, match="to_dict"):
        config_sha256([1])
    cycle = {}
    cycle["self"] = cycle
    with pytest.raises(ValueError, match="cycle"):
        config_sha256(cycle)


def git(folder, *args):
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *who, *args], check=True, capture_output=True)


def test_git_state(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a hook
    assert git_state(tmp_path) == ("unknown", True)
    monkeypatch.delenv("GIT_DIR")
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) == ("unknown", True)  # no commit yet
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit, dirty = git_state(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", commit) and dirty is False
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git_state(tmp_path) == (commit, False)
    (tmp_path / "benchmarks" / "records").mkdir(parents=True)
    (tmp_path / "benchmarks" / "records" / "x.json").write_text("{}")
    for page in ("benchmarks/LEADERBOARD.md", "benchmarks/leaderboard.html", "README.md"):
        (tmp_path / page).write_text("")
    assert git_state(tmp_path) == (commit, False)  # results are not code
    assert git_state(tmp_path / "benchmarks") == ("unknown", True)  # not the top
    (tmp_path / "new.py").write_text("2")
    assert git_state(tmp_path) == (commit, True)
    (tmp_path / "new.py").unlink()
    (tmp_path / "code.py").write_text("3")
    assert git_state(tmp_path) == (commit, True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A repository of its own with the files of this one."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--", *CHECKED_OUT], check=True, capture_output=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "-f", ".")
    git(folder, "commit", "-q", "-m", "all")
    return folder


def status(folder) -> set[str]:
    done = subprocess.run(
        ["git", "-C", folder, "status", "--porcelain"], check=True, capture_output=True, text=True
    )
    return {line[3:] for line in done.stdout.splitlines()}


def test_building_the_pages_leaves_the_code_clean(checkout):
    """A training that starts after a build is not marked as one of uncommitted code."""
    commit, dirty = git_state(checkout)
    assert not dirty
    record = next((checkout / "benchmarks/records").rglob("*.json"))
    for file in record.parent.glob(f"{record.stem}.*"):
        file.unlink()  # another store gives other pages
    for page in ("benchmarks/LEADERBOARD.md", "benchmarks/leaderboard.html"):
        (checkout / page).write_text("old")
    command = [sys.executable, "tools/leaderboard.py", "build"]
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)
    assert done.stdout.count("wrote ") == 3, done.stderr
    changed = {"docs/leaderboard.md", "benchmarks/LEADERBOARD.md", "benchmarks/leaderboard.html"}
    assert changed <= status(checkout)
    assert git_state(checkout) == (commit, False)


def test_everything_that_is_generated_may_change_and_no_code_may(checkout):
    """Each file of benchmarks/ and docs/ that no person wrote as code, and new ones beside it."""
    commit, _ = git_state(checkout)
    folders = ("benchmarks", "docs")
    files = [f for folder in folders for f in (checkout / folder).rglob("*") if f.is_file()]
    code = [f for f in files if f.suffix in (".py", ".ipynb")]
    code += [checkout / "benchmarks/protocols.json"]
    generated = [f for f in files if f not in code]
    assert len(code) > 10 and len(generated) > 30
    for file in generated:
        file.write_bytes(b"changed")
        if file.parent != checkout / "benchmarks":
            file.with_name(f"new{file.suffix}").write_bytes(b"new")
    assert git_state(checkout) == (commit, False), status(checkout)
    for file in (*code, checkout / "setup.py", checkout / "benchmarks" / "new.py"):
        before = file.read_bytes() if file.is_file() else None
        file.write_bytes(b"changed")
        assert git_state(checkout) == (commit, True), file
        file.unlink() if before is None else file.write_bytes(before)
    assert git_state(checkout) == (commit, False)


def test_git_state_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == ("unknown", True)


def test_library_versions(monkeypatch):
    installed = {"onedl-mmengine": "0.10.9", "mmengine": "0.1", "mmcv": "2.1.0", "torch": "2.9"}

    def version(name):
        if name not in installed:
            raise provenance.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(provenance.metadata, "version", version)
    versions = library_versions(["torch", "mmengine", "mmcv", "mmdet", "python", "pe_dense"])
    python = ".".join(map(str, sys.version_info[:3]))
    own = versions.pop("pe_dense")
    assert versions == {
        "torch": "2.9", "mmengine": "0.10.9", "mmcv": "2.1.0", "python": python,
    }  # fmt: skip
    assert re.match(r"\d+\.\d+", own)


def test_machine_and_time():
    machine = hardware("NVIDIA H100")
    assert machine.cpu and machine.cores >= 1 and machine.gpu == "NVIDIA H100"
    assert hardware().gpu is None
    assert 0.001 < peak_memory_gib() < 100
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", utc_now())


def test_command_line_has_no_machine_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    argv = [
        "tools/test.py",
        f"{tmp_path}/configs/a.py",
        "/mnt/disk/best ckpt.pth",
        "--encoder=hf://org/repo:w.pt",
        f"--work-dir={tmp_path}/work",
        "--cfg-options",
        "roots=['/a/b','/c/d']",
        "~/w.pt",
        "ratio=1/2",
    ]
    assert command_line(argv) == (
        "python tools/test.py configs/a.py '/path/to/best ckpt.pth' --encoder=hf://org/repo:w.pt "
        "--work-dir=work --cfg-options 'roots=['\"'\"'/path/to/b'\"'\"','\"'\"'/path/to/d'\"'\"']' "
        "/path/to/w.pt ratio=1/2"
    )


def test_command_line_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    argv = ["../repo/tools/test.py", f"{tmp_path}/repo/c.py", f"{tmp_path}/elsewhere/x", "\udcff"]
    expected = "python tools/test.py c.py x '\\udcff'"
    assert command_line(argv, root=tmp_path / "repo") == expected


def test_atomic_write_replaces_and_cleans_up(tmp_path, monkeypatch):
    path = tmp_path / "new" / "page.md"
    atomic_write_text(path, "first \u00e9\n")
    assert path.read_bytes() == "first \u00e9\n".encode()
    atomic_write_bytes(path, b"second")
    assert path.read_bytes() == b"second"

    def fail(*_):
        raise OSError("no")

    monkeypatch.setattr(provenance.Path, "replace", fail)
    with pytest.raises(OSError, match="no"):
        atomic_write_bytes(path, b"third")
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["page.md"]


def test_the_repository_is_the_folder_of_the_checkout() -> None:
    from pe_dense.results.provenance import repository_root

    assert (repository_root() / "setup.py").is_file()
    assert (repository_root() / "pe_dense" / "__init__.py").is_file()
