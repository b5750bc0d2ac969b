"""The command `pe-dense`: every tool of the repository by its name, wherever one is.

`pe-dense prepare-data mini` runs tools/prepare_data.py, in this process and with the same options
and exit codes; in a wheel the tools lie in the package. The name stands in `sys.argv[0]`, for
usages, records and advice. A tool is loaded when it is called.
"""

from __future__ import annotations

import difflib
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import pe_dense
from pe_dense.results.provenance import COMMAND, REPOSITORY_TOOLS, repository_root

USER_ERROR = 2


def tools() -> dict[str, Path]:
    """Name as it is typed -> file, sorted by name."""
    files = sorted((repository_root() / "tools").glob("*.py"))
    return {f.stem.replace("_", "-"): f for f in files if f.stem not in REPOSITORY_TOOLS}


def first_line(file: Path) -> str:
    """What a tool does: the first line of its docstring, without the full stop."""
    with file.open(encoding="utf-8") as text:
        return text.readline().strip('r"\n').removesuffix(".")


def usage() -> str:
    """The help."""
    found = tools()
    width = max(map(len, found), default=0)
    lines = [f"  {name:{width}}  {first_line(file)}" for name, file in found.items()]
    return "\n".join(
        (
            f"usage: {COMMAND} COMMAND ...",
            "",
            *lines,
            "",
            f"{COMMAND} COMMAND --help says more; {COMMAND} --version tells the version.",
            "configs/... is looked for in the current folder, then in the package:",
            f"  {repository_root() / 'configs'}",
            "",
        )
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run a tool; the exit code, 2 without a known command."""
    name, *rest = [*(sys.argv[1:] if words is None else words)] or [""]
    if name in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if name == "--version":
        sys.stdout.write(f"{COMMAND} {pe_dense.__version__}\n")
        return 0
    found = tools()
    file = found.get(name.replace("_", "-"))
    if file is None:
        near = difflib.get_close_matches(name, found, 1)
        hint = f"did you mean {near[0]}?" if near else f"see {COMMAND} --help"
        said = f"{COMMAND} has no command {name!r}; {hint}" if name else f"name a command; {hint}"
        sys.stderr.write(f"error: {said}\n")
        return USER_ERROR
    sys.argv = [f"{COMMAND} {file.stem.replace('_', '-')}", *rest]
    module = sys.modules["__main__"] = types.ModuleType("__main__")  # as Python does with a script
    module.__file__ = str(file)
    exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
    return 0
