"""Files that are whole or not there: modes, failures, writers that meet."""

from __future__ import annotations

import hashlib
import os
import stat

import pytest

from pe_dense import files


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_sum_is_that_of_the_bytes(tmp_path):
    data = bytes(range(256)) * 8000  # two chunks
    (tmp_path / "f").write_bytes(data)
    assert files.file_sha256(tmp_path / "f") == hashlib.sha256(data).hexdigest()


def test_text_and_bytes_replace_what_was_there(tmp_path):
    path = tmp_path / "new folder" / "f.txt"
    files.atomic_write_text(path, "\u00e9")
    assert contents(path.parent) == {"f.txt": b"\xc3\xa9"}
    files.atomic_write_bytes(path, b"new")
    assert contents(path.parent) == {"f.txt": b"new"}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_modes_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.atomic_write_bytes(tmp_path / "written", b"")
        files.atomic_create_bytes(tmp_path / "created", b"")
        with files.atomic_file(tmp_path / "filled") as temporary:
            other = temporary.with_name("private")
            other.touch(mode=0o600)
            other.replace(temporary)  # as safetensors does
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o666 & ~umask}


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), files.atomic_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"f": b"old"}


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    def disk_full(_):
        raise OSError(28, "No space left on device")

    (tmp_path / "f").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", disk_full)
    for write in (files.atomic_write_bytes, files.atomic_create_bytes):
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / "f", b"new")
    assert contents(tmp_path) == {"f": b"old"}


@pytest.mark.parametrize("has_links", [True, False])
def test_the_first_writer_wins(tmp_path, monkeypatch, has_links):
    def no_links(*_):
        raise PermissionError("no hard links here")

    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "folder" / "f"
    files.atomic_create_bytes(path, b"first")
    with pytest.raises(FileExistsError):
        files.atomic_create_bytes(path, b"second")
    assert contents(path.parent) == {"f": b"first"}


def test_a_temporary_is_hidden_and_goes(tmp_path):
    with files.temporary_beside(tmp_path / ("x" * 250), ".tmp.json") as temporary:
        temporary.write_bytes(b"1")  # the name is not too long for a file system
        assert temporary.name.startswith(".") and temporary.name.endswith(".tmp.json")
    assert contents(tmp_path) == {}


def test_whether_a_file_could_be_written_is_tried(tmp_path, monkeypatch):
    assert files.why_not_writable(tmp_path / "a" / "b" / "f") is None
    (tmp_path / "file").write_bytes(b"")
    assert files.why_not_writable(tmp_path / "file" / "f") == f"{tmp_path}/file is no folder"
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert files.why_not_writable(tmp_path / "link" / "f") == f"{tmp_path}/link is no folder"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]  # none created

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", disk_full)
    assert "cannot be written (No space left" in files.why_not_writable(tmp_path / "f")
