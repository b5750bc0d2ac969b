"""Reading JSON entry by entry gives what json.loads gives, however the file is cut into chunks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pe_dense.data.checks import json_stream
from pe_dense.data.checks.json_stream import NotJsonError, ObjectReader

CONTENT = {
    "info": {"year": 2017, "nested": [1, [2, {"a": None}]]},
    "images": [{"id": 1, "name": 'a\\b"c\u00e9\u4e2d.jpg'}, {}, 12345, -1.5e-7, "x", None, [1, 2]],
    "annotations": [],
    "flag": True,
    "n": 123456789,
}


def rebuilt(path: Path) -> dict:
    """The object again, from its events."""
    content = {}
    for kind, key, value, text in ObjectReader(path):
        if kind == "list":
            content[key] = []
        elif kind == "entry":
            content[key].append(value)
            assert json.loads(text) == value
        elif kind == "value":
            content[key] = value
    return content


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50, 1 << 20])
@pytest.mark.parametrize("style", [{}, {"indent": 2}, {"ensure_ascii": False}], ids=str)
def test_any_chunk_gives_the_same_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, style: dict
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", chunk)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(CONTENT, **style), encoding="utf-8")  # ends with its last bracket
    assert rebuilt(path) == CONTENT


def test_empty_object_and_hash_and_progress(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(" {} \n")
    seen = []
    reader = ObjectReader(path, lambda done, total: seen.append((done, total)))
    assert list(reader) == []
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert seen[-1] == (5, 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it ends in the middle|Expecting value"),
        ('{"a": [1, 2', "ends in the middle"),
        ('{"a": [{"b": "c', "ends in the middle"),
        ('{"a": 1', "ends in the middle"),
        ('{"a": 1}x', "follows its last bracket"),
        ('{"a": 1} {"b": 2}', "follows its last bracket"),
        ('{"a" 1}', "'1' stands where ':' is needed"),
        ('{"a": [1 2]}', "'2' stands where ',' is needed"),
        ("{'a': 1}", "a key is missing"),
        ('{"a": [1,]}', "Expecting value"),
        ('{"a": [nope]}', "Expecting value"),
        ("\ufeff{}", "byte-order mark"),
        ('{"a": ' + "[" * 100_000, "recursion|ends in the middle"),
    ],
)
def test_what_is_no_json(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(NotJsonError, match=words):
        list(ObjectReader(path))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(NotJsonError, match="not UTF-8"):
        list(ObjectReader(tmp_path / "x.json"))


@pytest.mark.parametrize(("text", "name"), [("[1]", "list"), ('"a"', "str"), ("12", "number")])
def test_json_that_is_no_object(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(TypeError, match=f"^{name}$"):
        list(ObjectReader(tmp_path / "x.json"))


def test_garbage_early_in_a_big_file_is_found_without_reading_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 64)
    path = tmp_path / "x.json"
    path.write_text('{"a": [{"b": !' + " " * 100_000 + "}]}")
    seen = []
    with pytest.raises(NotJsonError):
        list(ObjectReader(path, lambda done, _: seen.append(done)))
    assert seen[-1] < 1000


def test_an_entry_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 64)
    monkeypatch.setattr(json_stream, "MAX_ENTRY_CHARACTERS", 1000)
    path = tmp_path / "x.json"
    path.write_text('{"a": ["' + "x" * 100_000)
    seen = []
    with pytest.raises(NotJsonError):
        list(ObjectReader(path, lambda done, _: seen.append(done)))
    assert seen[-1] < 10_000
