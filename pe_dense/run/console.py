"""The command `pe-dense`: every tool of the repository by its name, wherever one is.

`pe-dense prepare-data mini` runs tools/prepare_data.py, in this process and with the same options
and exit codes; in a wheel the tools lie in the package. The name stands in `sys.argv[0]`, for
usages, records and advice. A tool is loaded when it is called.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import pe_dense
from pe_dense.results.provenance import COMMAND, REPOSITORY_TOOLS, repository_root
from pe_dense.run.completion import complete, script
from pe_dense.run.listing import listing
from pe_dense.run.near_names import hint

USER_ERROR = 2
# What people come for -> tools for it, in the order of the help; others are 'more'.
GROUPS = {
    "your own model": ("train", "test", "predict", "export", "publish", "visualize"),
    "data": ("prepare-data",),
    "comparing encoders": ("benchmark", "leaderboard"),
    "weights of encoders": ("convert-weights", "cache-teacher", "export-student", "fit-text-map"),
}
_LIST = "Prints configs, encoders or suites, a line each: list [KIND] [WORD ...]"
_COMPLETION = "Prints what makes a shell complete words: completion bash, or zsh"


def _completion(words: Sequence[str]) -> str:
    return script(words[0] if words else "")


def _complete(words: Sequence[str]) -> str:
    found = complete([word for word in words if word != "--"] if words[1:] else [""], tools())
    return "".join(f"{word}\n" for word in found)


OWN: dict[str, Callable[[Sequence[str]], str]] = {
    "list": listing,
    "completion": _completion,
    "complete": _complete,  # for the script of `completion`
}


def tools() -> dict[str, Path]:
    """Name as it is typed -> file, sorted by name."""
    files = sorted((repository_root() / "tools").glob("*.py"))
    return {f.stem.replace("_", "-"): f for f in files if f.stem not in REPOSITORY_TOOLS}


def first_line(file: Path) -> str:
    """What a tool does: the first line of its docstring, without the full stop."""
    with file.open(encoding="utf-8") as text:
        return text.readline().strip('r"\n').removesuffix(".")


def usage() -> str:
    """The help: every tool with a line, in groups."""
    found = tools()
    lines = {name: first_line(file) for name, file in found.items()}
    grouped = {name for names in GROUPS.values() for name in names}
    groups = {
        **{title: [n for n in names if n in found] for title, names in GROUPS.items()},
        "more": [name for name in found if name not in grouped],
    }
    groups["comparing encoders"].append("list")
    groups["more"].append("completion")
    lines |= {"list": _LIST, "completion": _COMPLETION}
    width = max(map(len, lines))
    shown = [f"usage: {COMMAND} COMMAND ..."]
    for title, names in groups.items():
        if names:
            shown += ["", f"{title}:", *(f"  {name:{width}}  {lines[name]}" for name in names)]
    return "\n".join(
        (
            *shown,
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
    if name in OWN:
        try:
            sys.stdout.write(OWN[name](rest))
        except ValueError as error:
            sys.stderr.write(f"error: {error}\n")
            return USER_ERROR
        return 0
    file = found.get(name.replace("_", "-"))
    if file is None:
        near = hint(name, [*found, "list", "completion"], 1) or f"see {COMMAND} --help"
        said = f"{COMMAND} has no command {name!r}; {near}" if name else f"name a command; {near}"
        sys.stderr.write(f"error: {said}\n")
        return USER_ERROR
    sys.argv = [f"{COMMAND} {file.stem.replace('_', '-')}", *rest]
    module = sys.modules["__main__"] = types.ModuleType("__main__")  # as Python does with a script
    module.__file__ = str(file)
    exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
    return 0
