"""Package metadata of pe_dense; `make setup` installs the tested versions."""

import re
import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))
from setup_steps.versions import PYTHONS, allowed, tested  # noqa: E402


class WithRepository(build_py):
    """Puts tools, configs and the hashes of protocols into a wheel, as `pe_dense/repository`.

    An editable install finds them in the checkout (pe_dense/results/provenance.py).
    """

    PATTERNS = ("configs/**/*.py", "tools/*.py", "benchmarks/protocols.json")

    def run(self):
        """Build, and add them where a wheel is built."""
        super().run()
        if self.editable_mode:
            return
        names = re.search(r"^REPOSITORY_TOOLS = (.+)$", source("results/provenance.py"), re.M)[1]
        target = Path(self.build_lib, "pe_dense", "repository")
        shutil.rmtree(target, ignore_errors=True)
        for file in (file for pattern in self.PATTERNS for file in ROOT.glob(pattern)):
            if f'"{file.stem}"' not in names:
                place = target / file.relative_to(ROOT)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)


def source(name):
    """Text of a file of the package, which may not be imported before what it needs is there."""
    return (ROOT / "pe_dense" / name).read_text(encoding="utf-8")


VERSION = re.search(
    r'^__version__ = "([^"]+)"',
    source("__init__.py"),
    re.MULTILINE,
)[1]
README = ROOT / "README.md"

EXTRAS = ("timm", "sam", "mot", "video", "lora", "tensorboard", "export", "text", "dev")

setup(
    name="pe_dense",
    version=VERSION,
    description="Dense prediction with Perception Encoder: PE as an OpenMMLab backbone",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=f">=3.{PYTHONS[0][1]},<3.{PYTHONS[1][1] + 1}",
    packages=find_packages(include=["pe_dense", "pe_dense.*"]),
    package_data={"pe_dense.results": ["page/*"], "pe_dense.zero_shot": ["prompts/*.json"]},
    cmdclass={"build_py": WithRepository},
    entry_points={"console_scripts": ["pe-dense = pe_dense.run.console:main"]},
    # pip builds onedl-mmcv apart from torch, hence without its operators, in seconds.
    install_requires=allowed(),
    extras_require={
        **{extra: allowed(extra) for extra in EXTRAS},
        "tested": tested(),
    },
)
