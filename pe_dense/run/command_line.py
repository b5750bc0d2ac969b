"""What the command-line tools share: options of a run, and errors as one sentence.

Nothing here imports torch, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

USER_ERROR = 2
# Registries and loading workers wrap a message; only what the user can act on is shown.
_WRAPPED = re.compile(r"class `\w+` in \S+: ")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one sentence and leave."""
        self.exit(USER_ERROR, f"error: {message}; see {self.prog} --help\n")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options that tools/train.py and tools/test.py share."""
    parser.add_argument("--encoder", help="zoo name or timm:<model>; replaces the config's encoder")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override config values, for example data_root=DIR max_epochs=3",
    )
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="FAULT",
        help="use data in spite of a fault that the check names; written into the record",
    )
    parser.add_argument("--work-dir", help="folder of checkpoints and logs")
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        default="none",
        help="pytorch under torchrun, slurm under srun",
    )
    # torchrun's old launcher passes the rank as an option.
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Turn KEY=VALUE words into values; what is no Python literal stays text.

    Raises:
        ValueError: If a word has no '='.

    Example:
        >>> parse_options(["max_epochs=3", "data_root=data/bccd", "lr=1e-4"])
        {'max_epochs': 3, 'data_root': 'data/bccd', 'lr': 0.0001}
    """
    options = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise ValueError(f"--cfg-options {pair!r} is not KEY=VALUE")
        try:
            options[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key] = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    return options


def sentence(error: BaseException) -> str:
    """The part of an error message that a person can act on, on one line."""
    text = str(error)
    if "Original Traceback" in text:  # raised in a loading worker
        text = re.split(r"\n[\w.]*Error: ", text.strip())[-1]
    return " ".join(_WRAPPED.sub("", text).split())


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a tool; a ValueError or an unusable file becomes one sentence and exit code 2.

    PE_DENSE_TRACEBACK=1 shows the whole traceback as well.
    """
    try:
        code = main() or 0
    except (ValueError, OSError) as error:
        if os.environ.get("PE_DENSE_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {sentence(error)}", file=sys.stderr, flush=True)
        code = USER_ERROR
    except (TypeError, KeyError) as error:
        # A registry wraps what a part says about its own arguments; anything else is a bug.
        if not _WRAPPED.search(str(error)) and "registry" not in str(error):
            raise
        print(f"error: {sentence(error)}; check the config", file=sys.stderr, flush=True)
        code = USER_ERROR
    except KeyboardInterrupt:
        print("stopped; run again with --resume to continue", file=sys.stderr)
        code = 130
    distributed = sys.modules.get("torch.distributed")  # not imported here: torch loads slowly
    if code == 0 and distributed and distributed.is_available() and distributed.is_initialized():
        from pe_dense.run.launch import leave_together

        leave_together()
    sys.exit(code)
