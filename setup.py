"""Package metadata of pe_dense; `make setup` installs the tested versions."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"',
    (ROOT / "pe_dense" / "__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
)[1]
README = ROOT / "README.md"

setup(
    name="pe_dense",
    version=VERSION,
    description="Dense prediction with Perception Encoder: PE as an OpenMMLab backbone",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["pe_dense", "pe_dense.*"]),
    package_data={"pe_dense.results": ["page/*"]},
    # onedl-mmcv compiles its operators against the torch that is there: install torch first, then
    # `pip install --no-build-isolation onedl-mmcv` with ninja, psutil, setuptools and wheel.
    install_requires=[
        "torch>=2.6",
        "numpy>=2.0",
        # imaug, of mmdet, excludes 4.13; 4.12 excludes the NumPy 2.3 that trackeval wants.
        "opencv-python>=4.11.0.86,<4.13",
        "pillow>=11",
        "onedl-mmengine>=0.10.12,<0.11",
        "onedl-mmcv>=2.3.6,<2.4",
        "onedl-mmdetection>=3.5.1,<3.6",
        "onedl-mmsegmentation>=1.4.2,<1.5",
        "pycocotools>=2.0.8",
        "faster-coco-eval>=1.6",
        "safetensors>=0.5",
        "huggingface_hub>=0.30",
        "rich>=13",
        "matplotlib>=3.9",
    ],
    extras_require={
        "timm": ["timm>=1.0.20", "torchvision"],
        "sam": ["transformers>=4.56"],
        "mot": ["trackeval>=1.3,<1.4", "lap>=0.5.12,<0.6"],
        "dev": ["pytest>=8", "pytest-xdist>=3.6", "ruff>=0.12", "selenium>=4.20"],
    },
)
