import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import setup_environment  # noqa: E402
from setup_steps import compiler, pip_environment, progress, torchvision_schemas, versions  # noqa: E402


@pytest.mark.parametrize("version", [(3, 10), (3, 11, 7), (3, 13, 99)])
def test_python_in_range(version):
    assert versions.python_problem(version) is None


@pytest.mark.parametrize("version", [(2, 7), (3, 9, 18), (3, 14, 0), (4, 0)])
def test_python_out_of_range_is_one_sentence(version):
    problem = versions.python_problem(version)
    assert f"Python {version[0]}.{version[1]} " in problem
    assert "3.10 to 3.13" in problem
    assert "\n" not in problem


def test_missing_compiler_names_the_packages():
    problem = compiler.compiler_problem({}, which=lambda name: None)
    assert "build-essential" in problem
    assert "gcc-c++" in problem
    assert "\n" not in problem


def test_compiler_may_be_named():
    present = {"cc": "/usr/bin/cc", "clang++": "/usr/bin/clang++"}
    assert compiler.compiler_problem({"CXX": "clang++ -stdlib=libc++"}, which=present.get) is None
    assert "CXX=clang++-99" in compiler.compiler_problem({"CXX": "clang++-99"}, which=present.get)


def test_missing_headers_name_the_packages(tmp_path):
    assert "-dev`" in compiler.headers_problem(tmp_path)
    (tmp_path / "Python.h").touch()
    assert compiler.headers_problem(tmp_path) is None


@pytest.mark.parametrize(
    ("torch_cuda", "gpu_visible", "nvcc_cuda", "forced", "enabled", "words"),
    [
        (None, False, None, None, False, "CPU build"),
        (None, False, "13.0", None, False, "CPU build"),  # nvcc alone is not enough
        ("13.0", False, "13.0", None, False, "No GPU"),
        ("13.0", True, None, None, False, "install the CUDA toolkit 13.0"),
        ("13.0", True, "12.8", None, False, "nvcc is CUDA 12.8"),
        ("13.0", True, "13.1", None, True, "compiled with CUDA"),
        ("13.0", True, "13.0", "0", False, "FORCE_CUDA=0"),
        ("13.0", False, "13.0", "1", True, "FORCE_CUDA=1"),
    ],
)
def test_cuda_choice(torch_cuda, gpu_visible, nvcc_cuda, forced, enabled, words):
    choice = compiler.choose_cuda(torch_cuda, gpu_visible, nvcc_cuda, forced)
    assert choice.enabled is enabled
    assert words in choice.reason


@pytest.fixture
def recorded_setup(tmp_path, monkeypatch):
    """A set-up whose programs are only written down; torch's CUDA is what `cuda` says."""

    class Recorded(setup_environment.Setup):
        cuda, fails = None, ()

        def python(self, log_name, arguments, advice):
            calls.append((log_name, arguments))
            if log_name in self.fails:
                raise setup_environment.SetupError("no network")
            return f"CUDA {self.cuda}\n"

    calls = []
    monkeypatch.setattr(setup_environment, "VENV", tmp_path)
    with (tmp_path / "lock").open("w") as lock:
        yield Recorded(lock), calls


def test_triton_comes_alone_and_may_be_missing(recorded_setup, capsys):
    setup, calls = recorded_setup
    setup.with_triton()
    name, arguments = calls[-1]
    assert name == "triton" and "--no-deps" in arguments
    wanted = Requirement(arguments[-1])
    assert wanted.name == "triton"
    linux = {"sys_platform": "linux", "platform_machine": "x86_64"}
    assert wanted.marker.evaluate(linux)
    assert not wanted.marker.evaluate({**linux, "platform_machine": "aarch64"})
    assert not wanted.marker.evaluate({**linux, "sys_platform": "darwin"})
    assert capsys.readouterr().out == ""
    setup.fails = ("triton",)
    setup.with_triton()
    assert "tests of its kernels are skipped" in capsys.readouterr().out
    setup.cuda = "13.0"
    calls.clear()
    setup.with_triton()
    assert [name for name, _ in calls] == ["torch"]
    assert capsys.readouterr().out == ""


def test_operators_are_compiled_for_the_gpus_that_are_there(monkeypatch):
    import compile_operators

    monkeypatch.setenv("MAX_JOBS", "14")
    monkeypatch.setenv("CFLAGS", "-O1")
    env = compile_operators.build_environment(True, "/cuda", "8.0;9.0")
    assert env["TORCH_CUDA_ARCH_LIST"] == "8.0;9.0" and env["FORCE_CUDA"] == "1"
    assert env["CUDA_HOME"] == "/cuda" and env["MAX_JOBS"] == "14"
    assert env["CFLAGS"] == "-O1 -g0 -w"
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    env = compile_operators.build_environment(False, "/cuda", "8.0")
    assert "TORCH_CUDA_ARCH_LIST" not in env and env["CUDA_VISIBLE_DEVICES"] == ""
    assert env["FORCE_CUDA"] == "0"


def test_no_set_up_works_while_operators_are_compiled(monkeypatch, tmp_path, capsys):
    import compile_operators
    from setup_steps import lock

    asked, kept = [], []

    def stopped(command, log, env, title, *keep_open, how_far):
        kept.extend(keep_open)
        with (tmp_path / ".setup.lock").open("w") as other:
            try:
                lock.fcntl.flock(other, lock.fcntl.LOCK_EX | lock.fcntl.LOCK_NB)
            except BlockingIOError:
                asked.append("held")
        return 1, "pip failed"

    monkeypatch.setattr(compile_operators, "ROOT", tmp_path)
    monkeypatch.setattr(compile_operators, "run_logged", stopped)
    for check in ("compiler_problem", "headers_problem"):
        monkeypatch.setattr(compile_operators.compiler, check, lambda _: "")
    monkeypatch.setattr(sys, "argv", ["compile_operators.py", "--log", str(tmp_path / "log")])
    assert compile_operators.main() == 2
    assert asked == ["held"] and len(kept) == 1  # pip has the lock as well
    assert "was not compiled" in capsys.readouterr().err
    with lock.lock_setup(tmp_path):  # free again
        pass


def test_compiling_without_a_compiler_is_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "compile_operators.py"], capture_output=True, text=True,
        env={**os.environ, "PATH": str(tmp_path), "CC": "", "CXX": ""},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("No C++ compiler") and done.stderr.count("\n") == 1


def test_cuda_toolkit_is_asked_from_nvcc(tmp_path):
    toolkit = tmp_path / "cuda-13.0"
    (toolkit / "bin").mkdir(parents=True)
    nvcc = toolkit / "bin" / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "Cuda compilation tools, release 13.0, V13.0.48"\n'
        f'else echo "#$ TOP={toolkit}/bin/.." >&2; fi\n'
    )
    nvcc.chmod(0o755)
    assert compiler.find_cuda({"CUDA_HOME": str(toolkit)}) == ("13.0", str(toolkit))


@pytest.mark.parametrize(
    ("num_cpus", "memory_gib", "jobs"), [(2, 23, 2), (64, 16, 8), (8, 1.5, 1), (1, 64, 1)]
)
def test_parallel_jobs(num_cpus, memory_gib, jobs):
    assert compiler.parallel_jobs(num_cpus, memory_gib) == jobs


def test_machine_size():
    num_cpus, memory_gib = compiler.machine_size()
    assert num_cpus >= 1
    assert memory_gib > 0


def test_progress_reads_the_lines_of_ninja():
    output = "  copying mmcv/version.py -> build/lib.linux-x86_64-cpython-311/mmcv\n"
    assert compiler.files_compiled(output, 20.0) == ""
    output += "  [19/78] c++ -MMD -MF /tmp/build/roi_align.o.d -DNDEBUG -fPIC\n"
    output += "  [20/78] c++ -MMD -MF /tmp/build/nms.o.d -DNDEBUG -fPIC\n"
    output += "     89 |   bool view_replay_enabled_ : 1 = false; // [3/9] is not progress\n"
    assert compiler.files_compiled(output, 140.0) == ", 20 of 78 files (25 %), about 7 min left"
    output += "  [78/78] c++ -MMD\n"
    assert compiler.files_compiled(output, 500.0) == ", 78 of 78 files (100 %)"


def test_run_logged_keeps_output_and_status(tmp_path):
    log = tmp_path / "stage.log"
    log.write_text("before\n")
    command = [sys.executable, "-c", "import sys; print('out'); sys.exit('[1/2] err')"]
    status, output = progress.run_logged(command, log, os.environ, "a stage")
    assert status == 1 and output.splitlines() == ["out", "[1/2] err"]
    assert log.read_text().splitlines()[2:] == ["out", "[1/2] err"]


def test_a_long_step_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SAY_EVERY_S", 0.05)
    command = [sys.executable, "-c", "import time; print('[4/8] c++', flush=True); time.sleep(1)"]
    log, title = tmp_path / "log", "compiling"
    how_far = compiler.files_compiled
    status, _ = progress.run_logged(command, log, os.environ, title, how_far=how_far)
    assert status == 0
    assert "compiling: 0:00:00, 4 of 8 files (50 %), about 1 min left\n" in capsys.readouterr().out


def test_a_virtual_environment_that_works(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_environment, "VENV", tmp_path)
    monkeypatch.setattr(setup_environment, "VENV_PYTHON", tmp_path / "bin" / "python")
    assert setup_environment.venv_python() is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    assert setup_environment.venv_python() is None  # without pip
    (tmp_path / "bin" / "pip").touch()
    assert setup_environment.venv_python() == "3.11.7"


def test_a_set_up_that_was_killed_starts_anew(tmp_path, monkeypatch, capsys):
    """pip takes what it left of a package for the whole."""
    venv = tmp_path / ".venv"
    monkeypatch.setattr(setup_environment, "VENV", venv)
    monkeypatch.setattr(setup_environment, "VENV_PYTHON", venv / "bin" / "python")
    setup_environment.create_venv()
    half = venv / "half_a_package"
    half.touch()
    setup_environment.create_venv()
    assert half.exists()  # one that failed goes on
    with (tmp_path / "lock").open("w") as lock:
        setup = setup_environment.Setup(lock)
        setup.logs.mkdir()
        with pytest.raises(setup_environment.SetupError):
            setup.python("stack", ["-c", "import os; os.kill(os.getpid(), 9)"], "advice")
    capsys.readouterr()
    setup_environment.create_venv()
    assert not half.exists()
    assert "killed at work: starting anew" in capsys.readouterr().out


def test_what_is_installed_is_allowed():
    pins = [Requirement(item) for item in versions.installed()]
    allowed = {
        item.name: item
        for extra in ("", "timm", "sam", "mot", "dev")
        for item in map(Requirement, versions.allowed(extra))
    }
    assert len(allowed) >= 20 and {"torch", "numpy", "timm", "pytest"} <= allowed.keys()
    for pin in pins:
        for clause in pin.specifier:
            if clause.operator in ("==", ">=") and pin.name in allowed:
                assert Version(clause.version) in allowed[pin.name].specifier, pin
    assert {pin.name for pin in pins} >= allowed.keys()


def test_the_metadata_has_the_list(tmp_path):
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "pe_dense.egg-info" / "requires.txt").read_text()
    assert "torch>=2.6\n" in text and "\n[mot]\ntrackeval<1.4,>=1.3\n" in text


def test_torch_is_pinned_wherever_it_could_be_replaced():
    assert versions.installed("torch")[0] in versions.installed()
    assert Requirement(versions.installed("torch")[0]).specifier.__str__().startswith("==")


def test_second_call_recognises_a_finished_setup(tmp_path, monkeypatch, capsys):
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "pip"):
        (venv / "bin" / name).touch()
    (venv / "pyvenv.cfg").write_text(f"version = {sys.version.split()[0]}\n")
    monkeypatch.setattr(setup_environment, "VENV", venv)
    monkeypatch.setattr(setup_environment, "VENV_PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(sys, "argv", ["setup_environment.py"])
    assert not setup_environment.is_complete()
    (venv / setup_environment.COMPLETE).write_text(setup_environment.complete_key())
    assert setup_environment.main() == 0
    assert capsys.readouterr().out == ""
    (venv / "lib/python3.11/site-packages/torch-2.13.0.dist-info").mkdir(parents=True)
    assert not setup_environment.is_complete()


def test_failed_stage_shows_the_end_of_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_environment, "VENV", tmp_path)
    monkeypatch.setattr(setup_environment, "VENV_PYTHON", Path(sys.executable))
    with (tmp_path / "lock").open("w") as lock:
        setup = setup_environment.Setup(lock)
        setup.logs.mkdir()
        setup.announce("[1/4] installing things")
        code = "import sys; [print('line', n) for n in range(50)]; sys.exit(3)"
        with pytest.raises(setup_environment.SetupError) as caught:
            setup.python("stack", ["-c", code], "check the network")
    message = str(caught.value)
    assert "line 29" not in message
    assert "line 30\n" in message
    assert message.splitlines()[-1].startswith(
        "Set-up failed at [1/4] installing things (full log: "
    )


def test_torchvision_hook_only_answers_for_torchvision(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(torchvision_schemas, "declare_missing_operators", called.append)
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    finder = type("Finder", (), {"find_spec": staticmethod(lambda name, path: spec)})
    monkeypatch.setattr(torchvision_schemas, "PathFinder", finder)
    watcher = torchvision_schemas.TorchvisionWatcher()
    monkeypatch.setattr(sys, "meta_path", [watcher, *sys.meta_path])
    assert watcher.find_spec("timm") is None
    assert not called
    assert watcher.find_spec("torchvision") is None
    assert called == [tmp_path]
    assert watcher not in sys.meta_path


def test_entry_points_name_existing_targets():
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert {"setup", "demo", "test", "lint"} <= targets
    last = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert last == "make test"


@pytest.fixture
def venv_of_another_python(tmp_path, monkeypatch):
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "pip"):
        (venv / "bin" / name).touch()
    (venv / "pyvenv.cfg").write_text("version = 3.10.99\n")
    monkeypatch.setattr(setup_environment, "VENV", venv)
    monkeypatch.setattr(setup_environment, "VENV_PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(setup_environment, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    monkeypatch.setattr(sys, "version", "3.12.1 (main)")
    monkeypatch.setattr(sys, "argv", ["setup_environment.py"])
    return venv


def test_another_python_than_that_of_venv_is_refused(venv_of_another_python, capsys):
    assert setup_environment.main() == 2
    told = capsys.readouterr().err
    assert "has Python 3.10.99, and this is 3.12.1: `make clean-venv` first" in told
    assert told.count("\n") == 1


def test_a_python_that_became_another_starts_anew(venv_of_another_python, monkeypatch, capsys):
    class MadeError(Exception):
        pass

    def made(command, **options):
        assert command[1:] == ["-m", "venv", "--clear", str(venv_of_another_python)]
        raise MadeError

    monkeypatch.setattr(sys, "prefix", str(venv_of_another_python))
    assert not setup_environment.is_complete()
    monkeypatch.setattr(setup_environment.subprocess, "run", made)
    with pytest.raises(MadeError):
        setup_environment.create_venv()
    assert ".venv is for Python 3.10.99: starting anew" in capsys.readouterr().out


@pytest.mark.parametrize("said", ["[Errno 28] No space left on device", "no route to host"])
def test_a_full_disk_is_no_network(tmp_path, monkeypatch, said):
    monkeypatch.setattr(setup_environment, "VENV", tmp_path)
    monkeypatch.setattr(setup_environment, "VENV_PYTHON", Path(sys.executable))
    with (tmp_path / "lock").open("w") as lock:
        setup = setup_environment.Setup(lock)
        setup.logs.mkdir()
        with pytest.raises(setup_environment.SetupError) as caught:
            setup.python("stack", ["-c", f"import sys; sys.exit({said!r})"], "check the network")
    last = str(caught.value).splitlines()[-1]
    assert ("the disk is full, free some space" in last) == ("space" in said)
    assert ("check the network" in last) == ("space" not in said)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, capsys):
    for name, value in (("ROOT", tmp_path / "none"), ("VENV", tmp_path / "none" / ".venv")):
        monkeypatch.setattr(setup_environment, name, value)
    monkeypatch.setattr(setup_environment, "is_complete", lambda: False)
    monkeypatch.setattr(sys, "argv", ["setup_environment.py"])
    assert setup_environment.main() == 2
    told = capsys.readouterr().err
    assert f"allow to write in {tmp_path / 'none'}, then run the same command again." in told
    assert told.count("\n") == 1


def test_pip_installs_nowhere_else():
    """PIP_PYTHON alone would fill the packages of another Python."""
    user = dict(PIP_TARGET="/a", PIP_PYTHON="/b", PIP_NO_DEPS="1", PYTHONPATH="/c", PATH="/bin",
                PIP_INDEX_URL="https://mirror", PIP_FIND_LINKS="/w", PE_DENSE_OPERATORS="on",
                PIP_NO_BUILD_ISOLATION="1", VIRTUAL_ENV="/other")  # fmt: skip
    found = pip_environment.pip_environment(user, "/here/.venv")
    kept = {key: found.pop(key) for key in ("PATH", "PIP_INDEX_URL", "PIP_FIND_LINKS")}
    assert kept.items() <= user.items()
    assert found.keys() == {
        "VIRTUAL_ENV", "PIP_USER", "PYTHONUNBUFFERED", "PIP_DISABLE_PIP_VERSION_CHECK"
    }  # fmt: skip
    assert found["VIRTUAL_ENV"] == "/here/.venv"


@pytest.mark.parametrize(
    "name", ["setup_environment.py", "compile_operators.py", "setup_steps/versions.py"]
)
def test_an_older_python_reaches_the_sentence(name):
    """What an older Python evaluates while it imports must be known to it."""
    text = (ROOT / "tools" / name).read_text()
    assert "\nfrom __future__ import annotations" in text


def test_set_up_runs_where_the_folder_of_a_script_is_no_place_for_modules():
    for name in ("setup_environment.py", "compile_operators.py"):
        done = subprocess.run(
            [sys.executable, ROOT / "tools" / name, "--help"], capture_output=True, text=True,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_make_refuses_a_program_that_is_no_python(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\necho Traceback >&2\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "setup", f"PYTHON={old}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"PYTHON={old} is no Python 3.10 to 3.13")


def test_make_without_python_says_so_in_one_sentence():
    done = subprocess.run(
        ["make", "setup", "PYTHON="], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("No Python 3.10 to 3.13")
