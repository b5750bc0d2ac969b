"""Tab completion of `pe-dense`: a short script for the shell, which asks the program itself.

    eval "$(pe-dense completion bash)"      # or zsh; in ~/.bashrc it stays

Commands, options, subcommands, configs, encoders and the names of `--cfg-options` are completed;
files where nothing of that fits. Nothing here imports torch, or a tool: their options are read in
their source.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pe_dense.encoders.zoo import ENCODERS
from pe_dense.results.provenance import COMMAND
from pe_dense.run import command_line
from pe_dense.run.listing import KINDS, listed, names_at_top, runnable_configs

SHELLS = ("bash", "zsh")
_OPTION = re.compile(r"\"(--[a-z][\w-]*)\"")
_SUBCOMMAND = re.compile(
    r"(?:(?:command|add_parser)\(\s*\"|^    \")([a-z][\w-]*)\"(?:,|: \()", re.M
)
_BASH = """\
_pe_dense() {{
    local IFS=$'\\n'
    COMPREPLY=($({command} complete -- "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null))
    [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *[=/] ]] && compopt -o nospace
}}
complete -o default -F _pe_dense {command}
"""
_ZSH = """\
autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
""" + "\n".join(line for line in _BASH.splitlines() if "compopt" not in line)


def script(shell: str) -> str:
    """What a shell has to run.

    Raises:
        ValueError: If there is none for it.
    """
    if shell not in SHELLS:
        raise ValueError(f"{COMMAND} completes in {' and '.join(SHELLS)}, not in {shell!r}")
    return (_BASH if shell == "bash" else _ZSH).format(command=COMMAND)


def options_of(file: Path) -> list[str]:
    """Options that a tool's source names, with those that it takes from `command_line`."""
    text = file.read_text(encoding="utf-8")
    if "command_line.add_run_options" in text or "command_line.add_speed_options" in text:
        text += Path(command_line.__file__).read_text(encoding="utf-8")
    return sorted({"--help", *_OPTION.findall(text)} - {"--local-rank", "--local_rank"})


def subcommands_of(file: Path) -> list[str]:
    """Subcommands that a tool's source names."""
    return sorted(set(_SUBCOMMAND.findall(file.read_text(encoding="utf-8"))))


def complete(words: Sequence[str], tools: dict[str, Path]) -> list[str]:
    """What may stand in the place of the last word.

    Args:
        words: After the command, the last one begun or empty.
        tools: Name -> file.

    Example:
        >>> complete(["list", "enc"], {})
        ['encoders']
    """
    *before, begun = words or [""]
    return sorted(w for w in _candidates(before, begun, tools) if w.startswith(begun))


def _candidates(before: Sequence[str], begun: str, tools: dict[str, Path]) -> list[str]:
    if not before:
        return [*tools, "list", "completion", "--help", "--version"]
    name, last = before[0], before[-1]
    if name == "completion":
        return [*SHELLS]
    if name == "list":
        return [*KINDS] if len(before) == 1 else []
    file = tools.get(name.replace("_", "-"))
    if file is None:
        return []
    if begun.startswith("-"):
        return options_of(file)
    if last in ("--encoder", "--encoders"):
        return [*ENCODERS]
    if last == "--weights":
        return ["random", "released"]
    if last == "--launcher":
        return ["none", "pytorch", "slurm"]
    if last == "--suite":
        return [*listed("suites")]
    if last == "--list":
        return [*KINDS]
    config = next((word for word in before if word in runnable_configs()), None)
    if "--cfg-options" in before and config is not None:
        return [f"{top}=" for top in names_at_top(runnable_configs()[config])]
    found = [*subcommands_of(file)] if len(before) == 1 else []
    takes_config = "config file" in file.read_text(encoding="utf-8")
    return found + ([*runnable_configs()] if takes_config and config is None else [])
