"""This repository's tools run one after the other in forks of one process that has imported them.

Most of the seconds of a small training are imports. A call is what a shell would do with the same
words, in the folder of the repository: the tool's file is run as the main program, with its
arguments, in a process of its own; only the imported libraries are there already.

    with WarmTools(clone) as tools:
        tools.call(["tools/train.py", "configs/..."], log)
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import shlex
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

IMPORTED = (  # pe_dense before mmdet, which it prepares the way for
    "torch", "torchvision", "cv2", "scipy.stats", "matplotlib.pyplot", "pycocotools.mask",
    "pe_dense.run.training", "pe_dense.run.evaluation", "pe_dense.detection", "pe_dense.depth",
    "pe_dense.segmentation", "pe_dense.probing", "pe_dense.tracking.mot", "pe_dense.results.store",
    "pe_dense.report.run_report",
)  # fmt: skip


class WarmTools:
    """Runs tools of a repository.

    Args:
        root: The repository, or a clone of it, whose pe_dense is imported.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        environment = {**os.environ, "PYTHONPATH": str(root)}
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())], cwd=root, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> WarmTools:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()
        self._server.wait()

    def call(self, command: Sequence[str], output: Path) -> None:
        """Run a tool with its arguments; what it prints goes to a file.

        Raises:
            ValueError: If it fails, with the end of what it printed.
        """
        print("$", shlex.join(["python", *command]), flush=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        self._server.stdin.write(json.dumps([str(output), *command]) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline().strip()
        if answer != "0":
            printed = output.read_text(errors="replace") if output.exists() else "nothing"
            raise ValueError(f"{shlex.join(command)} failed ({answer}): {printed[-1500:]}")


def _serve() -> None:
    """Fork for every line of standard input, and answer with the exit code."""
    sys.path.pop(0)  # of this file, as the tools have it not
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print while they are imported
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        output, tool, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run(Path(output), tool, arguments))
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


def _run(output: Path, tool: str, arguments: Sequence[str]) -> int:
    """A tool as the main program of this process; its exit code."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    sys.argv = [tool, *arguments]
    sys.path.insert(0, str(Path(tool).resolve().parent))
    code = 0
    try:
        runpy.run_path(tool, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # what a shell would show
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    _serve()
