"""Package metadata of pe_dense; `make setup` installs the tested versions."""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))
from setup_steps.versions import PYTHONS, allowed  # noqa: E402

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
    python_requires=f">=3.{PYTHONS[0][1]},<3.{PYTHONS[1][1] + 1}",
    packages=find_packages(include=["pe_dense", "pe_dense.*"]),
    package_data={"pe_dense.results": ["page/*"]},
    # pip builds onedl-mmcv apart from torch, hence without its operators, in seconds.
    install_requires=allowed(),
    extras_require={extra: allowed(extra) for extra in ("timm", "sam", "mot", "dev")},
)
