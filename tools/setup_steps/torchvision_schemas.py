"""Let a torchvision that was built for CUDA be imported beside a CPU-only torch.

timm requires torchvision. The torchvision on PyPI is linked against the CUDA libraries of torch,
so beside a CPU-only torch its compiled part cannot be loaded, and `import torchvision` then stops
with `RuntimeError: operator torchvision::nms does not exist`, not with an ImportError that the
optional imports in mmengine and mmseg would forgive.

`tools/setup_environment.py` copies this file into the virtual environment, with a `.pth` file that
imports it when Python starts. Here the two operators
that torchvision insists on are declared, without an implementation, just before torchvision is
imported. Its Python part (all that timm needs) then works, and a call of a compiled
operator raises torchvision's own explanation. Where the compiled part does load, nothing is done.
"""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

MISSING_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_KEPT_ALIVE = []  # a declaration lasts as long as its object


def declare_missing_operators(package_dir: Path) -> bool:
    """Declare the operators that torchvision registers at import, if its library cannot load.

    Args:
        package_dir: Folder of the installed torchvision package.

    Returns:
        True if at least one operator was declared here.
    """
    import torch

    for library in sorted(package_dir.glob("_C*.so")):
        try:
            torch.ops.load_library(str(library))
        except (ImportError, OSError):
            continue
        return False
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    declared = False
    for schema in MISSING_SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.split("(")[0]):
            fragment.define(schema)
            declared = True
    _KEPT_ALIVE.append(fragment)
    return declared


class TorchvisionWatcher:
    """Import hook that finds nothing itself and runs once, when torchvision is first looked for."""

    def find_spec(self, name, path=None, target=None):
        """Return None always, after declaring the operators where `name` is torchvision."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            spec = PathFinder.find_spec(name, path)
            for location in (spec and spec.submodule_search_locations) or ():
                declare_missing_operators(Path(location))


def install() -> None:
    """Put the hook first in `sys.meta_path`, once."""
    if not any(isinstance(finder, TorchvisionWatcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, TorchvisionWatcher())
