"""What a person is told of an error: one sentence with what was wrong and where, or None for a bug.

Whose error it is shows in its traceback. ValueError and OSError are for people, whoever raises
them. What a library raises while it builds a part of the config is about that part's settings, and
what it raises later, in a run with `--cfg-options`, most often about these. Everything else is a
bug, and keeps its traceback.

Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import re
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from pe_dense.run.near_names import hint

PACKAGE = Path(__file__).resolve().parents[1]
# Registries of some versions wrap a message; only what a person can act on is shown.
_WRAPPED = re.compile(r"class `\w+` in \S+: ")
_NO_KEYWORD = re.compile(r"unexpected keyword argument '(\w+)'")
_UNKNOWN = re.compile(r"(\S+) is not in the (.+?) registry")
_FREE_SPACE = "free space where the run writes, then start it again"  # `told` adds --resume
# By their message, since torch raises RuntimeError for these: (pattern, remedy).
_RESOURCES = (
    ("out of memory", "lower the batch size or the size of images"),
    ("can't allocate memory", "lower the batch size or the size of images"),
    ("PytorchStreamWriter", _FREE_SPACE),
    ("DataLoader worker", "lower num_workers, or give the machine more shared memory"),
)
# What torch raises for operators that a device lacks, and the variable that sends those to the CPU.
_MISSING_OPERATORS = (
    (re.compile(r"operator '(\S+)' is not currently implemented for the MPS"), "mps", "MPS"),
    (re.compile(r"run '(\S+)' with arguments from the 'XPU' backend"), "xpu", "XPU"),
    (re.compile(r"operator '(\S+)' is not currently implemented for the XPU"), "xpu", "XPU"),
)
_LIBRARIES = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
# Error number -> what is the matter with the file, and what to do.
_FILES = {
    errno.ENOENT: "does not exist; check the path",
    errno.EEXIST: "exists already, as a file; name another folder",
    errno.ENOTDIR: "is not a folder, or lies below a file; name another",
    errno.EISDIR: "is a folder, and a file is needed; name one",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "may not be read or written; change its rights or name another",
    ),
}
_NO_SPACE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_SHOW = "PE_DENSE_TRACEBACK=1 shows where"


def sentence(error: BaseException) -> str:
    """The part of an error message that a person can act on, on one line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if "Original Traceback" in text:  # raised in a loading worker
        text = re.split(r"\n[\w.]*Error: ", text.strip())[-1]
    return " ".join(_WRAPPED.sub("", text).split())


def told(error: Exception, words: Sequence[str] = ()) -> str | None:
    """One sentence for a person; None for a bug, whose traceback is needed.

    Args:
        error: With its traceback.
        words: The command line.
    """
    text = sentence(error) or _failed_line(error)
    named = text if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"
    if isinstance(error, MemoryError):
        return f"not enough memory ({text}); {_RESOURCES[0][1]}"
    for pattern, remedy in _RESOURCES if isinstance(error, RuntimeError) else ():
        if pattern in text:
            return f"{text.partition('. ')[0]}; {_to_go_on(remedy, words)}"
    for pattern, device, name in _MISSING_OPERATORS:
        if missing := pattern.search(text):
            return (
                f"torch has no operator {missing[1]} on the device '{device}'; set "
                f"PYTORCH_ENABLE_{name}_FALLBACK=1, which computes it on the processor, or "
                "PE_DENSE_DEVICE=cpu for the whole run"
            )
    if "MPS framework doesn't support float64" in text:
        return "this run needs float64, which the device 'mps' has not; set PE_DENSE_DEVICE=cpu"
    if unknown := _UNKNOWN.search(text):
        name, registry = unknown.groups()
        return (
            f"nothing is called {name!r} in {registry}; correct the type in the config, or name "
            "its module in custom_imports"
        )
    if isinstance(error, OSError):
        return _to_go_on(_file_sentence(error, text), words)
    if isinstance(error, ValueError) and _is_own(error):
        return text
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    # Python's own complaint of a wrong argument counts in parts of this package, too.
    is_of_part = isinstance(error, TypeError) or not _is_own(error)
    if is_of_part and (built := _part_that_is_built(frames)):
        part, names = built
        unknown = _NO_KEYWORD.search(text)
        near = hint(unknown[1], names) if unknown else ""
        return (
            f"{part} cannot be built from its settings ({named}); "
            f"{near or 'correct them in the config'}"
        )
    given = _given_options(words)
    if not _is_own(error) and given:
        return f"{named}; this run has the options {' '.join(given)}: correct them ({_SHOW})"
    return text if isinstance(error, ValueError) else None


def _to_go_on(text: str, words: Sequence[str]) -> str:
    """With the option that goes on, where the tool has it: others begin anew by themselves."""
    is_training = bool(words) and re.search(r"\btrain(\.py)?$", words[0]) is not None
    return text + " with --resume" * (is_training and text.endswith(_FREE_SPACE))


def _failed_line(error: Exception) -> str:
    """The code that failed, for assertions without a word."""
    lines = traceback.extract_tb(error.__traceback__)
    return (lines[-1].line or "") if lines else ""


def _file_sentence(error: OSError, text: str) -> str:
    if error.errno in _NO_SPACE:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}; {_FREE_SPACE}"
    if error.filename is None:
        return text
    return f"{error.filename} {_FILES.get(error.errno, f'cannot be used ({error.strerror})')}"


def _is_own(error: BaseException) -> bool:
    """Whether no library raised it, here or in a loading worker."""
    if "Original Traceback" in str(error):
        file = str(error).rpartition('  File "')[2].partition('"')[0]
    else:
        *_, (last, _) = traceback.walk_tb(error.__traceback__)
        file = last.f_code.co_filename
    if Path(file).is_relative_to(PACKAGE):
        return True  # also where the package is installed beside the libraries
    return not (file.startswith("<") or any(map(Path(file).is_relative_to, _LIBRARIES)))


def _part_that_is_built(frames: Sequence[FrameType]) -> tuple[str, set[str]] | None:
    """The innermost part of a config that a registry was building, and the settings it knows."""
    for frame in reversed(frames):
        if frame.f_code.co_name == "build_from_cfg":
            cfg: Any = frame.f_locals.get("cfg")
            kind = cfg.get("type") if hasattr(cfg, "get") else None
            name = kind if isinstance(kind, str) else getattr(kind, "__name__", None)
            return None if name is None else (name, _settings_of(frame.f_locals.get("obj_cls")))
    return None


def _settings_of(part: Any) -> set[str]:
    """Names of the arguments of a class and of those that it hands others on to."""
    found: set[str] = set()
    for each in getattr(part, "__mro__", (part,) if callable(part) else ()):
        with contextlib.suppress(ValueError, TypeError):  # made in C, without a signature
            found |= set(inspect.signature(each).parameters)
    return found - {"self", "args", "kwargs"}


def _given_options(words: Sequence[str]) -> list[str]:
    """What followed --cfg-options and its like."""
    found, inside = [], False
    for word in words:
        if word.startswith("--"):
            inside = word in ("--cfg-options", "--encoder-options")
        elif inside:
            found.append(word)
    return found
