"""What was found out is kept while nothing changes, and found out by one process."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from pe_dense.data.checks import remembered as module
from pe_dense.data.checks.remembered import FOLDER, Answer, remembered

OLD_S = 1_600_000_000


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Old files; the time of the last change of their entries cannot be set, so it may be new."""
    monkeypatch.setattr(module, "SETTLED_S", -3600.0)
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for name in ("a.json", "images/1.jpg", "images/2.jpg"):
        (folder / name).write_text(name)
        os.utime(folder / name, (OLD_S, OLD_S))
    return folder


class Counted:
    """Counts how often it is asked."""

    def __init__(self, root: Path) -> None:
        self.root, self.times = root, 0

    def ask(self, **question: object) -> object:
        return remembered(self.root, question, self.find_out)

    def find_out(self) -> Answer:
        self.times += 1
        names = sorted(path.name for path in (self.root / "images").iterdir())
        return Answer({"names": names}, [self.root / "a.json", self.root / "images"])


def test_it_is_found_out_once(root: Path) -> None:
    counted = Counted(root)
    assert counted.ask() == counted.ask() == {"names": ["1.jpg", "2.jpg"]}
    assert counted.times == 1


def test_another_question_is_another_answer(root: Path) -> None:
    counted = Counted(root)
    counted.ask(classes=["cat"])
    counted.ask(classes=["dog"])
    assert counted.times == 2


def changed_time(root: Path) -> None:
    os.utime(root / "images/1.jpg", (OLD_S + 1, OLD_S + 1))


def changed_size(root: Path) -> None:
    (root / "a.json").write_text("longer than before")
    os.utime(root / "a.json", (OLD_S, OLD_S))


def removed(root: Path) -> None:
    (root / "images/2.jpg").unlink()


def removed_list(root: Path) -> None:
    (root / "a.json").unlink()


def renamed(root: Path) -> None:
    (root / "images/2.jpg").rename(root / "images/3.jpg")


def new_folder(root: Path) -> None:
    (root / "images/more").mkdir()


def changed_content(root: Path) -> None:
    """As `cp -p` and `rsync -t` leave it: the same size and the same time."""
    (root / "a.json").write_text("A.JSON")
    os.utime(root / "a.json", (OLD_S, OLD_S))


def changed_content_in_a_folder(root: Path) -> None:
    (root / "images/1.jpg").write_text("IMAGES/1.jpg")
    os.utime(root / "images/1.jpg", (OLD_S, OLD_S))


def hidden_file(root: Path) -> None:
    (root / "images/.3.jpg").write_text("x")


CHANGES = [
    changed_time, changed_size, removed, removed_list, renamed, new_folder, changed_content,
    changed_content_in_a_folder, hidden_file,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(root: Path, change: object) -> None:
    counted = Counted(root)
    counted.ask()
    change(root)  # type: ignore[operator]
    counted.ask()
    assert counted.times == 2


def test_a_file_that_just_changed_is_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(root)
    monkeypatch.setattr(module, "SETTLED_S", 2.0)
    (root / "a.json").touch()
    counted.ask()
    counted.ask()
    assert counted.times == 2


def test_a_copy_of_a_project_asks_anew(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers travel with the folder; with relative paths the questions are equal, too."""
    monkeypatch.chdir(root.parent)
    here = Counted(Path(root.name))
    here.ask(file="data/a.json")
    other = tmp_path / "copy"
    shutil.copytree(root, other / root.name)
    (other / root.name / "images/2.jpg").unlink()
    monkeypatch.chdir(other)
    assert Counted(Path(root.name)).ask(file="data/a.json") == {"names": ["1.jpg"]}


def test_other_code_asks_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(root)
    counted.ask()
    monkeypatch.setattr(module, "_code_sha256", lambda source: "other")
    counted.ask()
    assert counted.times == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"value": 1, "read": 3}', "\x00"])
def test_a_broken_answer_is_found_out_again(root: Path, content: str) -> None:
    counted = Counted(root)
    counted.ask()
    [file] = (root / FOLDER).glob("*.json")
    file.write_text(content)
    assert counted.ask() == {"names": ["1.jpg", "2.jpg"]}
    assert json.loads(file.read_text())["value"] == {"names": ["1.jpg", "2.jpg"]}


def test_data_that_cannot_be_written_are_remembered_elsewhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (root / FOLDER).write_text("in the way")
    counted = Counted(root)
    counted.ask()
    counted.ask()
    assert counted.times == 1
    assert list((tmp_path / "cache").rglob("*.json"))


def test_it_works_where_nothing_can_be_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (root / FOLDER).write_text("in the way")
    counted = Counted(root)
    assert counted.ask() == counted.ask()
    assert counted.times == 2


def _slow(root: Path) -> Answer:
    with (root / "log").open("a") as file:
        file.write("x")
    time.sleep(0.5)
    return Answer(1, [root / "a.json"])


def _ask_slowly(root: Path) -> None:
    from functools import partial

    assert remembered(root, {}, partial(_slow, root)) == 1


def test_one_of_several_processes_finds_out(root: Path) -> None:
    context = multiprocessing.get_context("fork")
    several = [context.Process(target=_ask_slowly, args=(root,)) for _ in range(4)]
    for process in several:
        process.start()
    for process in several:
        process.join()
    assert [process.exitcode for process in several] == [0] * 4
    assert (root / "log").read_text() == "x"
