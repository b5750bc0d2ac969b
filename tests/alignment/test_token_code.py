"""The hash of the code behind a teacher: other code is another hash, other words are not."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from pe_dense.alignment import token_code
from pe_dense.alignment.token_code import code_of

SOURCE = '''
"""Words."""
from pe_dense.inner import scale

class Teacher:
    """More words."""
    def maps(self, x):
        """Still more."""
        return scale(x)  # a comment
'''


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Function: the hash of a class Teacher whose file, and the package it imports, hold this."""
    monkeypatch.setattr(token_code, "PACKAGE", tmp_path / "pe_dense")
    (tmp_path / "pe_dense").mkdir()
    numbers = iter(range(100))

    def build(source=SOURCE, inner="def scale(x):\n    return 2 * x\n", **others):
        for name, text in {"inner": inner, **others}.items():
            (tmp_path / "pe_dense" / f"{name}.py").write_text(text)
        file = tmp_path / "teacher.py"
        file.write_text(source.replace("from pe_dense.inner import scale", "") or " ")
        spec = importlib.util.spec_from_file_location(f"teacher_{next(numbers)}", file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        file.write_text(source)
        token_code._read.cache_clear()
        return code_of(module.Teacher)

    return build


def test_words_and_layout_do_not_count(made):
    other = SOURCE.replace("More words", "Other words").replace("  # a comment", "")
    other = other.replace('        """Still more."""\n', "\n\n")
    assert made(other) == made()


@pytest.mark.parametrize(
    "changes",
    [
        {"source": SOURCE.replace("scale(x)", "scale(-x)")},
        {"inner": "def scale(x):\n    return 3 * x\n"},
        {"inner": "from pe_dense.deeper import *\n", "deeper": "a = 1\n"},
    ],
)
def test_code_counts_also_where_it_is_imported_from(made, changes):
    assert made(**changes) != made()


def test_code_counts_at_any_depth(made):
    inner = "from pe_dense.deeper import a\ndef scale(x):\n    return a * x\n"
    assert made(inner=inner, deeper="a = 1\n") != made(inner=inner, deeper="a = 2\n")


def test_what_is_not_imported_does_not_count(made):
    assert made(aside="a = 1\n") == made(aside="a = 2\n")


def test_the_teachers_are_told_apart():
    pytest.importorskip("mmengine")
    from pe_dense.alignment.encoder_teacher import EncoderTeacher
    from pe_dense.alignment.sam_teacher import SamTeacher

    assert code_of(EncoderTeacher) != code_of(SamTeacher)
    assert code_of(SamTeacher) == code_of(SamTeacher)
