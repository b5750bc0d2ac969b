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
from setup_steps import machine, progress, stamps, torchvision_schemas  # noqa: E402


@pytest.mark.parametrize("version", [(3, 10), (3, 11, 7), (3, 12, 99)])
def test_python_in_range(version):
    assert machine.python_problem(version) is None


@pytest.mark.parametrize("version", [(2, 7), (3, 9, 18), (3, 13, 0), (4, 0)])
def test_python_out_of_range_is_one_sentence(version):
    problem = machine.python_problem(version)
    assert f"Python {version[0]}.{version[1]} " in problem
    assert "3.10, 3.11 or 3.12" in problem
    assert "\n" not in problem


def test_missing_compiler_names_the_packages():
    problem = machine.compiler_problem({}, which=lambda name: None)
    assert "build-essential" in problem
    assert "gcc-c++" in problem
    assert "\n" not in problem


def test_compiler_may_be_named():
    present = {"cc": "/usr/bin/cc", "clang++": "/usr/bin/clang++"}
    assert machine.compiler_problem({"CXX": "clang++ -stdlib=libc++"}, which=present.get) is None
    assert "CXX=clang++-99" in machine.compiler_problem({"CXX": "clang++-99"}, which=present.get)


def test_missing_headers_name_the_packages(tmp_path):
    assert "-dev`" in machine.headers_problem(tmp_path)
    (tmp_path / "Python.h").touch()
    assert machine.headers_problem(tmp_path) is None


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
    choice = machine.choose_cuda(torch_cuda, gpu_visible, nvcc_cuda, forced)
    assert choice.enabled is enabled
    assert words in choice.reason


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
    assert machine.find_cuda({"CUDA_HOME": str(toolkit)}) == ("13.0", str(toolkit))


@pytest.mark.parametrize(
    ("num_cpus", "memory_gib", "jobs"), [(2, 23, 2), (64, 16, 8), (8, 1.5, 1), (1, 64, 1)]
)
def test_parallel_jobs(num_cpus, memory_gib, jobs):
    assert machine.parallel_jobs(num_cpus, memory_gib) == jobs


def test_machine_size():
    num_cpus, memory_gib = machine.machine_size()
    assert num_cpus >= 1
    assert memory_gib > 0


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_progress_reads_the_lines_of_ninja():
    clock = Clock()
    state = progress.Progress("compiling mmcv", clock)
    clock.now = 20.0
    state.feed("  Running command Building wheel for onedl-mmcv (pyproject.toml)\n")
    state.feed("  copying mmcv/version.py -> build/lib.linux-x86_64-cpython-311/mmcv\n")
    assert str(state).strip() == "compiling mmcv: 20 s"
    clock.now = 140.0
    state.feed("  [19/78] c++ -MMD -MF /tmp/build/roi_align.o.d -DNDEBUG -fPIC\n")
    state.feed("  [20/78] c++ -MMD -MF /tmp/build/nms.o.d -DNDEBUG -fPIC\n")
    state.feed("     89 |   bool view_replay_enabled_ : 1 = false; // [3/9] is not progress\n")
    assert str(state).strip() == (
        "compiling mmcv: 2 min 20 s, 20 of 78 files (25 %), about 6 min left"
    )
    state.feed("  [78/78] c++ -MMD\n")
    assert str(state).endswith("78 of 78 files (100 %)")


def test_run_logged_keeps_output_and_status(tmp_path):
    log = tmp_path / "stage.log"
    command = [sys.executable, "-c", "import sys; print('out'); sys.exit('[1/2] err')"]
    assert progress.run_logged(command, log, os.environ, "a stage") == 1
    assert log.read_text().splitlines()[1:] == ["out", "[1/2] err"]


def test_stamp_holds_until_the_key_changes(tmp_path):
    state = stamps.Stamps(tmp_path / "stamps")
    key = stamps.stage_key("torch==2.13.0", "3.11.7")
    assert not state.matches("torch", key)
    state.write("torch", key)
    assert state.matches("torch", key)
    assert not state.matches("torch", stamps.stage_key("torch==2.13.0", "3.12.1"))
    state.remove("torch")
    assert not state.matches("torch", key)
    state.remove("torch")


def test_versions_are_read_from_the_environment_folder(tmp_path):
    assert stamps.venv_python_version(tmp_path) is None
    assert stamps.installed_version("torch", tmp_path) is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    (tmp_path / "lib/python3.11/site-packages/torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    assert stamps.venv_python_version(tmp_path) == "3.11.7"
    assert stamps.installed_version("torch", tmp_path) == "2.13.0+cpu"


def make_package(site, name, files, missing=(), record=True):
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "INSTALLER").write_text("pip\n")
    for file in files:
        if file not in missing:
            (site / file).touch()
    if record:
        rows = [f"{file},sha256=abc,0" for file in files] + [f"__pycache__/{name}.pyc,,"]
        (info / "RECORD").write_text("\n".join(rows))


def test_packages_that_pip_left_incomplete_are_forgotten(tmp_path):
    make_package(tmp_path, "whole", ["whole.py", "whole_more.py"])
    make_package(tmp_path, "half", ["half.py", "half_more.py"], missing=["half_more.py"])
    make_package(tmp_path, "unfinished", ["unfinished.py"], record=False)
    (tmp_path / "~orch").mkdir()
    removed = stamps.remove_broken_installs(tmp_path)
    assert removed == ["half-1.0.dist-info", "unfinished-1.0.dist-info"]
    assert (tmp_path / "whole-1.0.dist-info").is_dir()
    assert not (tmp_path / "~orch").exists()


def pinned():
    texts = [setup_environment.TORCH, setup_environment.MMCV]
    texts += [*setup_environment.STACK, *setup_environment.TIMM]
    return {item.name.lower(): item for item in map(Requirement, texts)}


def test_pins_meet_the_package_metadata():
    text = (ROOT / "setup.py").read_text()
    required = [Requirement(item) for item in re.findall(r'"([a-z][\w-]*(?:[<>=][^"]*)?)"', text)]
    pins = pinned()
    required = [item for item in required if item.name.lower() in pins]
    assert len(required) >= 14
    for item in required:
        for clause in pins[item.name.lower()].specifier:
            if clause.operator == "==":
                assert Version(clause.version) in item.specifier, item


def test_torch_is_pinned_wherever_it_could_be_replaced():
    assert setup_environment.TORCH in setup_environment.TIMM
    assert Requirement(setup_environment.TORCH).name == "torch"


def test_second_call_recognises_a_finished_setup(tmp_path, monkeypatch, capsys):
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").touch()
    (venv / "pyvenv.cfg").write_text("version = 3.11.7\n")
    monkeypatch.setattr(setup_environment, "VENV", venv)
    monkeypatch.setattr(setup_environment, "VENV_PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(sys, "argv", ["setup_environment.py"])
    stamps.Stamps(venv / "setup-stamps").write("complete", setup_environment.complete_key())
    assert setup_environment.main() == 0
    assert capsys.readouterr().out == ""


def test_stage_is_repeated_when_a_package_was_uninstalled(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_environment, "VENV", tmp_path)
    info = tmp_path / "lib/python3.11/site-packages/opencv_python-4.12.0.88.dist-info"
    info.mkdir(parents=True)
    with (tmp_path / "lock").open("w") as lock:
        setup = setup_environment.Setup(lock)
    assert not setup.is_done("stack", "key", ["opencv-python==4.12.0.88"])
    setup.stamps.write("stack", "key")
    assert setup.is_done("stack", "key", ["opencv-python==4.12.0.88"])
    info.rmdir()
    assert not setup.is_done("stack", "key", ["opencv-python==4.12.0.88"])


def test_failed_stage_shows_the_end_of_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_environment, "VENV", tmp_path)
    monkeypatch.setattr(setup_environment, "VENV_PYTHON", Path(sys.executable))
    with (tmp_path / "lock").open("w") as lock:
        setup = setup_environment.Setup(lock)
        setup.logs.mkdir()
        code = "import sys; [print('line', n) for n in range(50)]; sys.exit(3)"
        with pytest.raises(setup_environment.SetupError) as caught:
            setup.python("stack", "installing things", ["-c", code], "check the network")
    message = str(caught.value)
    assert "line 29" not in message
    assert "line 30\n" in message
    assert message.splitlines()[-1].startswith("Set-up failed at installing things (full log: ")


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


def test_make_without_python_says_so_in_one_sentence():
    done = subprocess.run(
        ["make", "setup", "PYTHON="], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("No Python 3.10, 3.11 or 3.12")
