"""The one list of versions: what pe_dense allows, and what `make setup` installs and is tested.

Read by `setup.py` and `tools/setup_environment.py`; standard library only. As a program it ends
with exit code 0 where the Python that runs it can be used.
"""

from __future__ import annotations  # an older Python comes as far as the sentence that refuses it

import sys
from typing import NamedTuple

PYTHONS = ((3, 10), (3, 13))  # the first and the last


def python_problem(version: tuple[int, ...]) -> str | None:
    """One sentence when a Python version cannot be used, else None."""
    if PYTHONS[0] <= tuple(version[:2]) <= PYTHONS[1]:
        return None
    return (
        f"Python {version[0]}.{version[1]} cannot be used: pe_dense needs Python 3.10 to 3.13; "
        "name one with `make setup PYTHON=/path/to/python3.11`."
    )


class Package(NamedTuple):
    """One package; a version is None where that reader leaves the package out.

    Attributes:
        name: As pip knows it.
        allowed: What a `pip install pe_dense` accepts.
        installed: What `make setup` installs.
        extra: `pip install pe_dense[extra]`; "" for what is always needed.
    """

    name: str
    allowed: str | None
    installed: str | None
    extra: str = ""


LINUX_X86 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
PACKAGES = (
    Package("torch", ">=2.6", "==2.13.0"),
    # trackeval wants NumPy 2.3.2, which OpenCV 4.12 excludes; imaug, of mmdet, excludes later ones.
    Package("numpy", ">=2.0", ">=2.3.2,<2.5; python_version >= '3.11'"),
    Package("numpy", None, ">=2.2.6,<2.3; python_version < '3.11'"),
    Package("opencv-python", ">=4.11.0.86,<4.13", "==4.11.0.86"),
    Package("opencv-python-headless", None, "==4.11.0.86"),
    Package("pillow", ">=11", ">=11"),
    Package("onedl-mmengine", ">=0.10.12,<0.11", "==0.10.12"),
    Package("onedl-mmcv", ">=2.3.6,<2.4", "==2.3.6"),
    Package("onedl-mmdetection", ">=3.5.1,<3.6", "==3.5.1"),
    Package("onedl-mmsegmentation", ">=1.4.2,<1.5", "==1.4.2"),
    Package("pycocotools", ">=2.0.8", "==2.0.11"),
    Package("faster-coco-eval", ">=1.6", "==1.8.0"),
    Package("safetensors", ">=0.5", ">=0.5,<1"),
    Package("huggingface_hub", ">=0.30", ">=0.30,<3"),
    Package("rich", ">=13", ">=13,<16"),
    Package("matplotlib", ">=3.9", ">=3.9,<4"),
    # timm requires torchvision, which PyPI has as a CUDA build only. With torch installed and named
    # again, pip takes the torchvision that is pinned to this torch (8 MB) and nothing else. Beside
    # a CPU-only torch that build does not load: see torchvision_schemas.py.
    Package("timm", ">=1.0.28", "==1.0.31", "timm"),
    Package("torchvision", "", "==0.28.0", "timm"),
    Package("transformers", ">=4.56", "==5.18.0", "sam"),
    # LoRA (tune=lora); it brings transformers and accelerate.
    Package("peft", ">=0.17", "==0.21.2", "lora"),
    Package("trackeval", ">=1.3,<1.4", "==1.3.0", "mot"),
    Package("lap", ">=0.5.12,<0.6", "==0.5.13", "mot"),
    Package("av", ">=17,<19", "==18.1.0; python_version >= '3.11'", "video"),
    Package("av", None, ">=17,<18; python_version < '3.11'"),
    Package("tensorboard", ">=2.16", ">=2.16,<3", "tensorboard"),
    Package("open-clip-torch", ">=3", "==3.3.0", "text"),
    Package("onnx", ">=1.18", "==1.23.2", "export"),
    Package("onnxscript", ">=0.5.6", "==0.7.2", "export"),
    Package("onnxruntime", ">=1.22", "==1.32.0; python_version >= '3.11'", "export"),
    Package("onnxruntime", None, ">=1.22,<1.24; python_version < '3.11'"),
    Package("pytest", ">=8", ">=8,<10", "dev"),
    Package("pytest-xdist", ">=3.6", ">=3.6,<4", "dev"),
    Package("ruff", ">=0.12", ">=0.12,<0.18", "dev"),
    Package("selenium", ">=4.20", ">=4.20,<5", "dev"),
    Package("mkdocs-material", ">=9.6,<10", ">=9.6,<10", "dev"),
    # A CUDA build of torch brings its own; beside a CPU build the tests interpret kernels with it.
    Package("triton", None, f"==3.6.0; {LINUX_X86}", "kernels"),
    # What installs pe_dense in place, and compiles mmcv's operators (`make operators`).
    Package("setuptools", None, ">=80,<85", "build"),
    Package("wheel", None, "", "build"),
    Package("packaging", None, ">=24.2", "build"),
    Package("ninja", None, "", "build"),
    Package("psutil", None, "", "build"),
)


def allowed(extra: str = "") -> list[str]:
    """What the package metadata requires for one extra."""
    return [p.name + p.allowed for p in PACKAGES if p.extra == extra and p.allowed is not None]


def tested() -> list[str]:
    """The versions of what is always needed that the tests run with, for `pe_dense[tested]`."""
    return [p.name + p.installed for p in PACKAGES if p.extra == "" and p.installed is not None]


def installed(*names: str) -> list[str]:
    """What pip is told to install: the named packages, or all but triton (a step of its own)."""
    chosen = [p for p in PACKAGES if p.name in names or (not names and p.name != "triton")]
    return [p.name + p.installed for p in chosen if p.installed is not None]


if __name__ == "__main__":
    sys.exit(python_problem(sys.version_info[:2]) and 2)
