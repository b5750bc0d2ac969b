"""What the command-line tools share: options of a run, and errors as one sentence.

Nothing here imports torch, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from pe_dense.results.provenance import COMMAND, by_command, typed
from pe_dense.run.error_text import sentence, told  # noqa: F401
from pe_dense.run.near_names import hint, near_names
from pe_dense.run.own_launch import INTERRUPTED, is_told, launch, started_as

USER_ERROR = 2
_UNKNOWN_OPTION = re.compile(r"unrecognized arguments: (?:[^-]\S* )*(--[\w-]+)")
_NO_CHOICE = re.compile(r"invalid choice: '?([\w-]+)'? \(choose from (.*)\)")
_TOOL = re.compile(r"(torchrun (?:--[\w-]+ \S+ )*)?(?:python )?\btools/(\w+)\.py\b")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit code 2, and options have one name.

    Scripts and records repeat a command word by word, so that all must know its options.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Print one sentence, with what was most likely meant, and leave."""
        near = self._nearest(message)
        self.exit(USER_ERROR, f"error: {message}; {near or f'see {self.prog} --help'}\n")

    def _nearest(self, message: str) -> str:
        """'did you mean --encoder?' for an unknown option, or a value that is no choice."""
        if unknown := _UNKNOWN_OPTION.search(message):
            near = near_names(unknown[1].strip("-"), (o.strip("-") for o in options_of(self)), 2)
            return f"did you mean {', '.join(f'--{name}' for name in near)}?" if near else ""
        if wrong := _NO_CHOICE.search(message):
            return hint(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        return ""

    def format_help(self) -> str:
        """The help, with commands as they are typed."""
        return as_typed(super().format_help())


def with_own_paths(text: str, argv: Sequence[str] | None = None) -> str:
    """Text in which '/path/to/NAME' is the path of that name that this command was given.

    Commands that runs keep have no paths of their machine; advice to type one again needs them.

    Args:
        text: With commands as `provenance.command_line` writes them.
        argv: Default: `sys.argv`.

    Example:
        >>> with_own_paths("data_root=/path/to/bccd", ["t.py", "data_root=/disk/bccd"])
        'data_root=/disk/bccd'
    """
    given = [part for word in (sys.argv if argv is None else argv) for part in word.split("=")]
    named = {re.split(r"[\\/]", part.rstrip("/"))[-1]: part for part in given if "/" in part}
    return re.sub(r"/path/to/([^\s'\",;:)\]]+)", lambda match: named.get(match[1], match[0]), text)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Long options of a parser and of all its subcommands."""
    found: set[str] = set()
    for action in parser._actions:
        if action.help != argparse.SUPPRESS:
            found |= {option for option in action.option_strings if option.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found |= options_of(inner)
    return found


def as_typed(text: str, argv: Sequence[str] | None = None) -> str:
    """Text in which each tool is called as this one was, so that a command in it can be pasted.

    Args:
        text: With commands as `python tools/test.py`.
        argv: Default: `sys.argv`.

    Example:
        >>> as_typed("see python tools/prepare_data.py --help", ["pe-dense test"])
        'see pe-dense prepare-data --help'
    """
    if not by_command(sys.argv if argv is None else argv):
        return text

    def called(match: re.Match[str]) -> str:
        launcher = f"{match[1]}--no-python " if match[1] else ""
        return f"{launcher}{COMMAND} {match[2].replace('_', '-')}"

    return _TOOL.sub(called, text)


class _List(argparse.Action):
    """Prints what there is and leaves, as `--help` does."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> NoReturn:
        from pe_dense.run.listing import listing

        try:
            sys.stdout.write(listing(values))
        except ValueError as error:
            parser.exit(USER_ERROR, f"error: {error}\n")
        parser.exit()


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What is scored or drawn: `run`, read by `opened_run.config_and_checkpoint`."""
    parser.add_argument(
        "run",
        nargs="+",
        metavar="[CONFIG] [CHECKPOINT]",
        help="checkpoint file or work dir, which knows its config; a config (Python that is run) "
        "before it, or alone where nothing is trained",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options that tools/train.py and tools/test.py share."""
    parser.add_argument(
        "--list",
        nargs="*",
        action=_List,
        metavar="WORD",
        help="print the configs whose line has these words, or `encoders ...`, and stop",
    )
    parser.add_argument("--encoder", help="zoo name or timm:<model>; replaces the config's encoder")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override config values, for example data_root=DIR max_epochs=3",
    )
    add_accept_option(parser)
    parser.add_argument("--work-dir", help="folder of checkpoints and logs")
    add_speed_options(parser)
    parser.add_argument(
        "--gpus",
        type=int,
        metavar="N",
        help="run on N GPUs of this machine (without one: N processes on the CPU)",
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        default="none",
        help="pytorch under torchrun, slurm under srun",
    )
    # torchrun's old launcher passes the rank as an option.
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)


def launched(args: argparse.Namespace) -> int | None:
    """Exit code of the processes that `--gpus N` asks for; None where this process does the work.

    Raises:
        ValueError: If there is no such number, or a launcher as well; or with what they told.
    """
    if args.gpus is None:
        return None
    if args.gpus < 1:
        raise ValueError(f"--gpus {args.gpus}: at least one process is needed")
    if args.launcher != "none":
        raise ValueError(
            f"--gpus starts the processes itself; leave --launcher {args.launcher} out"
        )
    return None if args.gpus == 1 else launch(sys.argv, args.gpus)


def add_speed_options(parser: argparse.ArgumentParser) -> None:
    """Options of `speed.OPTIONS`, which every tool that runs a model has."""
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile the encoder's blocks: waits at every new shape, then runs faster",
    )
    parser.add_argument(
        "--tf32", action="store_true", help="TensorFloat-32 in heads and losses (CUDA)"
    )


def speed_options(args: argparse.Namespace) -> tuple[str, ...]:
    """Names of the options of `add_speed_options` that are on."""
    return tuple(name for name in ("compile", "tf32") if getattr(args, name))


def add_accept_option(parser: argparse.ArgumentParser) -> None:
    """The option of every tool whose check of the data refuses faults."""
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="FAULT",
        help="use data in spite of a fault that the check names; written into the record",
    )


class Options(dict[str, Any]):
    """Options by name; `texts` has what a person wrote, for where text is expected: '2024'."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = dict(texts)
        super().__init__({key: _literal(text) for key, text in texts.items()})


def parse_options(pairs: Sequence[str]) -> Options:
    """Turn KEY=VALUE words into values; what is no Python literal stays text.

    Raises:
        ValueError: If a word has no '=', or a key comes twice.

    Example:
        >>> parse_options(["max_epochs=3", "data_root=data/bccd", "lr=1e-4"])
        {'max_epochs': 3, 'data_root': 'data/bccd', 'lr': 0.0001}
    """
    texts: dict[str, str] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise ValueError(f"--cfg-options {pair!r} is not KEY=VALUE")
        if key in texts:
            raise ValueError(f"--cfg-options gives {key} twice, {texts[key]!r} and {text!r}")
        texts[key] = text
    return Options(texts)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def stopped(argv: Sequence[str], goes_on: bool = False, option: str = "") -> str:
    """What is told when a tool is stopped: the command that goes on from there, if one does.

    Args:
        argv: As `sys.argv`.
        goes_on: Whether a command goes on, rather than begins anew.
        option: What it takes to go on, besides the same arguments.

    Example:
        >>> stopped(["tools/train.py", "c.py"], goes_on=True, option="--resume")
        'stopped; go on with: python tools/train.py c.py --resume'
        >>> stopped(["tools/test.py", "c.py"])
        'stopped; begin again with: python tools/test.py c.py'
        >>> stopped(["pe-dense test", "c.py"])
        'stopped; begin again with: pe-dense test c.py'
    """
    words = [*argv, *([option] if option and option not in argv else [])]
    launched = "TORCHELASTIC_RUN_ID" in os.environ or "--launcher" in argv
    under = " under the same launcher" if launched else ""
    return f"stopped; {'go on' if goes_on else 'begin again'}{under} with: " + shlex.join(
        typed(words)
    )


def run(main: Callable[[], int | None], goes_on: bool = False, option: str = "") -> NoReturn:
    """Run a tool; what a person can put right becomes one sentence and exit code 2.

    PE_DENSE_TRACEBACK=1 shows the whole traceback as well; see `error_text` for what is a bug.
    `goes_on` and `option` are those of `stopped`.
    """
    try:
        code = main() or 0
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":
            print(stopped(started_as(sys.argv), goes_on, option), file=sys.stderr)
        code = INTERRUPTED
    except Exception as error:
        text = told(error, sys.argv)
        if text is None:
            raise
        if os.environ.get("PE_DENSE_TRACEBACK"):
            traceback.print_exc()
        text = with_own_paths(as_typed(text))
        if not is_told(text):
            print(f"error: {text}", file=sys.stderr, flush=True)
        code = USER_ERROR
    distributed = sys.modules.get("torch.distributed")  # not imported here: torch loads slowly
    if code == 0 and distributed and distributed.is_available() and distributed.is_initialized():
        from pe_dense.run.launch import leave_together

        leave_together()
    sys.exit(code)
