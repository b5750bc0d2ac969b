"""Reading torch files in which nothing can run.

`torch.load(weights_only=True)` builds tensors and plain containers and refuses everything else but
a list of classes. Frameworks store more beside the tensors: settings, NumPy numbers, histories of
scalars. Their real classes on that list would be a way in (MMEngine's list has the real `getattr`,
from which a file reaches `eval`), so each is replaced by a stand-in that keeps what it is given and
does nothing. Of these, NumPy numbers and arrays of numbers are then read as the bytes that they
are; all others stay stand-ins, which nobody can mistake for data.
"""

from __future__ import annotations

import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_dense.encoders.conversion import shorten

logger = logging.getLogger(__name__)

RESAVE = "re-save its state dict alone, with safetensors.torch.save_file or torch.save"
# Kind, width in bytes; objects, text and structures stay stand-ins.
_NUMBERS = re.compile(r"[fiu][1248]|b1")


class Inert:
    """In the place of an object: what it was called with, and the state that it was given."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:  # noqa: D102 (as `object` has it)
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        """Keep the state; it goes nowhere else."""
        self.state = state


class InertType(Inert):
    """In the place of a NumPy dtype: its code is the first argument."""


class InertScalar(Inert):
    """In the place of a NumPy number: its dtype and its bytes are the arguments."""


class InertArray(Inert):
    """In the place of a NumPy array: the state is (version, shape, dtype, order, bytes)."""


class InertHistory(Inert):
    """In the place of MMEngine's HistoryBuffer: the state has its arrays by name."""


_STAND_INS: dict[str, type[Inert]] = {
    "argparse.Namespace": Inert,
    "builtins.getattr": Inert,  # how the history names its methods
    "builtins.slice": Inert,
    "mmengine.logging.history_buffer.HistoryBuffer": InertHistory,
    "numpy.ndarray": Inert,
    "numpy.dtype": InertType,
    **{f"numpy.{core}.multiarray._reconstruct": InertArray for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": InertScalar for core in ("core", "_core")},
    **{
        f"numpy.dtypes.{kind}DType": InertType
        for kind in ("Float64", "Float32", "Int64", "Int32", "UInt32", "Bool")
    },
}


def read_torch_file(path: Path, map_location: Any = "cpu", mapped: bool = False) -> Any:
    """What a file of `torch.save` holds, with stand-ins for all that is no tensor or container.

    Args:
        path: The file.
        map_location: As of `torch.load`.
        mapped: Map an archive into memory, so that it costs memory only for what is used; for
            tensors that are copied before the file may go.

    Raises:
        ForeignObjectsError: If it holds objects of other classes, which loading might run.
        ValueError: If it is damaged or no such file.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    is_archive = magic[:2] == b"PK"
    if is_archive and not zipfile.is_zipfile(path):
        raise ValueError("it is incomplete or damaged; download or copy it again")
    stand_ins: Any = [(kind, name) for name, kind in _STAND_INS.items()]
    try:
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(
                path, map_location=map_location, weights_only=True, mmap=mapped and is_archive
            )
        return with_numbers(content)
    except pickle.UnpicklingError as error:
        names = _foreign_classes(path, str(error), is_archive)
        if names or magic[:1] == b"\x80":
            raise ForeignObjectsError(
                f"it contains objects other than tensors ({shorten(names) or 'unnamed'}) and was "
                f"refused because loading those could run code; {RESAVE}"
            ) from error
        cause: Exception = error
    except OSError as error:
        # torch seeks before the start of a file that is not an archive and too short.
        if error.filename is not None:
            raise
        cause = error
    except Exception as error:  # a damaged file can make torch raise nearly anything
        if "TorchScript" in str(error):
            raise ForeignObjectsError(
                f"it is a TorchScript archive, which holds code; {RESAVE} of the loaded module"
            ) from error
        cause = error
    raise ValueError("it is damaged or no torch checkpoint; download or copy it again") from cause


class ForeignObjectsError(ValueError):
    """A file holds what could run code when it is loaded; nothing of it was."""


def _foreign_classes(path: Path, message: str, is_archive: bool) -> list[str]:
    """Names of the classes and functions a refused pickle asks for; it is not executed."""
    names = set(re.findall(r"GLOBAL (\S+)", message))
    if is_archive:
        try:
            names = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        except Exception as error:  # the pickle inside is damaged
            logger.debug("cannot list the classes in %s: %s", path, error)
    return sorted(names - _STAND_INS.keys())


def with_numbers(content: Any) -> Any:
    """The same with numbers and arrays for the stand-ins of NumPy's, changed in place."""
    return _replaced(content, _number)


def stand_ins_in(content: Any, where: str = "") -> list[str]:
    """Where stand-ins are left in nested containers: ['optimizer.state[3]']."""
    if isinstance(content, Inert):
        return [where]
    if isinstance(content, dict):
        inner = [(f"{where}.{key}".lstrip("."), value) for key, value in content.items()]
        inner += [(f"{where} (a key)".lstrip(), key) for key in content]
    elif isinstance(content, (list, tuple, set)):
        inner = [(f"{where}[{place}]", value) for place, value in enumerate(content)]
    else:
        return []
    return [place for name, value in inner for place in stand_ins_in(value, name)]


def _replaced(value: Any, change: Callable[[Inert], Any]) -> Any:
    if isinstance(value, Inert):
        return change(value)
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _replaced(item, change)
    elif isinstance(value, list):
        value[:] = [_replaced(item, change) for item in value]
    elif type(value) is tuple:
        return tuple(_replaced(item, change) for item in value)
    return value


def _number(value: Inert) -> Any:
    """A stand-in as a number or an array of numbers, where it is one."""
    if isinstance(value, InertScalar) and len(value.args) == 2:
        array = _array((), *value.args)
        return value if array is None else array.item()
    if isinstance(value, InertArray) and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, kind, is_fortran, data = value.state
        array = _array(shape[::-1] if is_fortran else shape, kind, data)
        return value if array is None else (array.T if is_fortran else array)
    if isinstance(value, InertHistory) and isinstance(value.state, dict):
        _replaced(value.state, _number)
    return value


def _array(shape: Any, kind: Any, data: Any) -> np.ndarray | None:
    code = kind.args[0] if isinstance(kind, InertType) and kind.args else None
    if not (isinstance(code, str) and _NUMBERS.fullmatch(code) and isinstance(data, (bytes, str))):
        return None
    if isinstance(data, str):  # protocol 2 has no bytes
        data = data.encode("latin1")
    try:
        return np.frombuffer(data, dtype=f"<{code}").reshape(shape).copy()
    except (ValueError, TypeError):
        return None  # a size that does not fit
