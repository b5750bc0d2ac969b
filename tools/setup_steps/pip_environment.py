"""The environment that pip and the compiler run in: the user's, less what leads elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

# Where Python looks for packages before it looks into `.venv`.
OF_PYTHON = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "__PYVENV_LAUNCHER__")
# Another place, another Python, another list, nothing at all, or a build of mmcv beside torch,
# which then compiles its operators.
OF_PIP = (
    "TARGET", "PREFIX", "ROOT", "PYTHON", "PYTHON_VERSION", "PLATFORM", "IMPLEMENTATION", "ABI",
    "DRY_RUN", "NO_DEPS", "REQUIREMENT", "EDITABLE", "IGNORE_INSTALLED", "FORCE_REINSTALL",
    "NO_BUILD_ISOLATION", "QUIET",
)  # fmt: skip
OF_PE_DENSE = ("PE_DENSE_OPERATORS",)  # what runs take is not what an installation is checked for


def pip_environment(environ: Mapping[str, str], venv: str) -> dict[str, str]:
    """For pip in the environment at `venv`; indexes, mirrors, links and caches of the user stay."""
    unwanted = {*OF_PYTHON, *OF_PE_DENSE, *(f"PIP_{name}" for name in OF_PIP)}
    kept = {key: value for key, value in environ.items() if key not in unwanted}
    own = dict(VIRTUAL_ENV=venv, PIP_USER="0", PYTHONUNBUFFERED="1")
    return kept | own | dict(PIP_DISABLE_PIP_VERSION_CHECK="1")
