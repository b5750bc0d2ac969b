"""`--gpus N`: one sentence and the exit code of the process that failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pe_dense.run import own_launch
from pe_dense.run.own_launch import command, is_told

REPO = Path(__file__).resolve().parents[2]
TOOL = """
import os, sys, time
from pe_dense.run import command_line

def main():
    parser = command_line.Parser()
    parser.add_argument("outcome")
    command_line.add_run_options(parser)
    args = parser.parse_args()
    if (code := command_line.launched(args)) is not None:
        return code
    rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if args.outcome == "works":
        # One write per line: where Python does not buffer, print writes a line and its end apart,
        # and those of two processes mix.
        os.write(1, f"process {rank} of {size}, launcher {args.launcher}\\n".encode())
    elif args.outcome == "all":
        raise ValueError("data_root nowhere does not exist; name another")
    elif args.outcome == "waits" or (args.outcome == "one" and rank == "0"):
        open(f"waits{rank}", "w").close()
        time.sleep(600)
    elif args.outcome == "one":
        raise ValueError("process one cannot")
    elif args.outcome == "bug":
        raise AttributeError("oops")
    elif args.outcome == "killed" and rank == "1":
        os.kill(os.getpid(), 9)

command_line.run(main, goes_on=True, option="--resume")
"""


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    file = tmp_path / "tool.py"
    file.write_text(TOOL)
    return file


def run(tool: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, tool.name, *words]
    return subprocess.run(command, cwd=tool.parent, env=env, capture_output=True, text=True)


def test_processes_have_what_torchrun_would_give_them(tool: Path) -> None:
    done = run(tool, "works", "--gpus", "2")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        f"process {rank} of 2, launcher pytorch" for rank in range(2)
    ]
    alone = run(tool, "works", "--gpus=1")
    assert alone.stdout == "process None of None, launcher none\n"


def test_an_error_of_all_is_one_sentence_and_exit_code_2(tool: Path) -> None:
    done = run(tool, "all", "--gpus", "3")
    assert done.returncode == 2
    assert done.stderr == "error: data_root nowhere does not exist; name another\n"


def test_an_error_of_one_ends_the_others(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_launch, "_GRACE", 0.2)  # of this process; the tool has its own
    tool.write_text(
        TOOL.replace(
            "def main", "from pe_dense.run import own_launch\nown_launch._GRACE = 0.2\n\ndef main"
        )
    )
    done = run(tool, "one", "--gpus", "2")
    assert done.returncode == 2 and done.stderr == "error: process one cannot\n"


def test_bugs_and_kills_keep_their_exit_codes(tool: Path) -> None:
    done = run(tool, "bug", "--gpus", "2")
    assert done.returncode == 1 and "AttributeError: oops" in done.stderr
    done = run(tool, "killed", "--gpus", "2")
    assert done.returncode == 137 and "ended by SIGKILL" in done.stderr


def test_ctrl_c_tells_the_command_that_was_typed(tool: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    started = subprocess.Popen(
        [sys.executable, tool.name, "waits", "--gpus", "2"],
        cwd=tool.parent, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # In a shell's background, where tests may run, Ctrl-C is ignored by all that is started.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    until = time.monotonic() + 60
    while len(list(tool.parent.glob("waits*"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does
    told = started.communicate(timeout=60)[1]
    assert started.returncode == 130
    assert told == "stopped; go on with: python tool.py waits --gpus 2 --resume\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "0"], "at least one process"),
        (["--gpus", "2", "--launcher", "pytorch"], "leave --launcher pytorch out"),
        (["--gpus", "two"], "invalid int value"),
    ],
)
def test_wrong_numbers(tool: Path, words: list[str], said: str) -> None:
    done = run(tool, "works", *words)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_the_command_of_one_process() -> None:
    words = command(["tools/train.py", "c.py", "--gpus=8", "--cfg-options", "a=1"])
    assert words[1:] == ["tools/train.py", "c.py", "--cfg-options", "a=1", "--launcher", "pytorch"]


def test_of_torchruns_processes_the_first_tells(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(own_launch.tempfile, "gettempdir", lambda: str(tmp_path))
    environ = {"TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_ERROR_FILE": str(tmp_path / "e.json")}
    assert not is_told("wrong", environ)
    assert is_told("wrong", environ)
    assert '"message": "wrong"' in (tmp_path / "e.json").read_text()
    claim = next(tmp_path.glob("pe_dense-x-*"))
    os.utime(claim, (0, 0))  # of an earlier run
    assert not is_told("wrong", environ)
    assert not is_told("wrong", {})
