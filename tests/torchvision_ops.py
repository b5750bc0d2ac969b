"""Make timm importable beside a CPU-only torch, for tests.

timm imports torchvision. PyPI's torchvision is built for CUDA: beside a CPU-only torch its
compiled half does not load, and its Python half stops at operators that were never declared.
Declaring the operators (they are never called) is enough. Where torchvision is not installed at
all, empty stand-ins for the few names that timm imports take its place.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

import torch

_NMS_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_DECLARED: list[torch.library.Library] = []  # a declaration lives as long as its object


class _AnyMember(type):
    """Class attributes that are asked for exist: members of enumerations, as strings."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(ModuleType):
    """A module in which every public name exists, as an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _AnyMember(name, (torch.nn.Module,), {})
        setattr(self, name, value)
        return value


class _StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision and anything below it as stand-ins."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        module = _StandIn(spec.name)
        module.__version__ = "0.0.0"
        return module

    def exec_module(self, module):
        pass


def make_timm_importable() -> None:
    """Do what this machine needs before `import timm`; nothing where it works already."""
    if "timm" in sys.modules or "torchvision" in sys.modules:
        return
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_StandInFinder())
    elif not torch.cuda.is_available():
        declare_missing_ops()


def importorskip_timm() -> ModuleType:
    """timm, or a skip of the test module where timm is not installed."""
    import pytest

    make_timm_importable()
    return pytest.importorskip("timm")


def declare_missing_ops() -> None:
    """Declare the operators that torchvision's Python half registers itself for."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(name + _NMS_SCHEMA)
            _DECLARED.append(library)
