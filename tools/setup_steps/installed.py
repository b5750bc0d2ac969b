"""What is already installed in `.venv`, and what an interrupted pip left behind."""

from __future__ import annotations

import re
import shutil
from pathlib import Path


def installed_version(package: str, venv: Path) -> str | None:
    """Version of an installed package, read from the name of its metadata folder."""
    found = sorted(venv.glob(f"lib/python3*/site-packages/{package}-*.dist-info"))
    return found[0].name[len(package) + 1 : -len(".dist-info")] if found else None


def venv_python_version(venv: Path) -> str | None:
    """Python version of a virtual environment (e.g. `3.11.7`); None where it does not work."""
    config = venv / "pyvenv.cfg"
    if not (config.is_file() and (venv / "bin" / "python").exists()):
        return None
    found = re.search(r"^version\s*=\s*(\S+)", config.read_text(), re.MULTILINE)
    return found[1] if found else None


def remove_broken_installs(site_packages: Path) -> list[str]:
    """Remove the metadata of packages that an interrupted pip left incomplete.

    pip takes a metadata folder as proof that the package is there. Without it, pip installs the
    package again, over the files that are already in place.

    Args:
        site_packages: The folder that pip installs into.

    Returns:
        Names of the removed metadata folders.
    """
    removed = []
    for info in sorted(site_packages.glob("*.dist-info")):
        record = info / "RECORD"
        rows = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
        # Rows without a hash are byte code and the like, which may go missing.
        files = [row.rsplit(",", 2)[0].strip('"') for row in rows if "sha256=" in row]
        whole = files and (info / "INSTALLER").is_file()
        if not whole or not all((site_packages / name).exists() for name in files):
            shutil.rmtree(info)
            removed.append(info.name)
    for leftover in site_packages.glob("~*"):  # pip renames to this what it is about to remove
        shutil.rmtree(leftover, ignore_errors=True)
    return removed
