"""A wheel of this repository, unpacked beside nothing of it, does what the tools do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from pe_dense.mini_world.formats import MiniWorldConfig, build_mini_world
from pe_dense.results.provenance import SHIPPED, command_line, files_of_code, typed
from pe_dense.run import command_line as texts
from pe_dense.run import console
from pe_dense.run.config_files import config_files, find_config
from pe_dense.run.launch import command_with_launcher
from pe_dense.suites import plan

REPO = Path(__file__).resolve().parents[1]
CONFIG = "configs/detection/atss_pe_t16_mini.py"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of an unpacked wheel, built without network from a copy of the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns("__pycache__")
    parts = ("pe_dense", "tools", "configs", "benchmarks/protocols.json")
    for name in (*parts, "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        place = folder / "source" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, place, ignore=skip)
        else:
            shutil.copyfile(REPO / name, place)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*pip, "--wheel-dir", folder, folder / "source"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def pe_dense(installed, folder, *words):
    """Calls the command as its entry point does, in a folder."""
    env = {**os.environ, "PYTHONPATH": str(installed), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pe_dense", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def files_below(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*.py")
        if "__pycache__" not in file.parts
    }


def test_a_wheel_holds_configs_and_tools_byte_by_byte(installed):
    shipped = installed / "pe_dense" / "repository"
    assert files_below(shipped / "configs") == files_below(REPO / "configs")
    tools = files_below(shipped / "tools")
    assert {"train.py", "demo.py"} <= tools.keys() and "setup_environment.py" not in tools
    assert tools.keys() == {file.name for file in console.tools().values()}
    assert all(text == (REPO / "tools" / name).read_bytes() for name, text in tools.items())
    package = files_below(installed / "pe_dense")
    own = {name for name in package if not name.startswith("repository/")}
    assert own == files_below(REPO / "pe_dense").keys()
    assert not SHIPPED.exists()  # nothing of it lies in the checkout


def test_a_wheel_installs_the_command(installed):
    [info] = installed.glob("*.dist-info")
    assert "pe-dense = pe_dense.run.console:main" in (info / "entry_points.txt").read_text()
    metadata = Parser().parsestr((info / "METADATA").read_text())
    assert any(line.startswith("torch") for line in metadata.get_all("Requires-Dist"))


def test_the_help_has_a_line_for_every_tool(installed, tmp_path):
    done = pe_dense(installed, tmp_path, "--help")
    assert done.returncode == 0 and not done.stderr
    for name, file in console.tools().items():
        [line] = [line for line in done.stdout.splitlines() if line.split()[:1] == [name]]
        assert console.first_line(file) in line
        assert 10 < len(console.first_line(file)) < 110 and '"' not in line
    assert str(installed / "pe_dense" / "repository" / "configs") in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "no command 'trian'; did you mean train?"),
        (["prepare-dat"], "did you mean prepare-data?"),
        (["xyz"], "no command 'xyz'; see pe-dense --help"),
        (["setup-environment"], "no command 'setup-environment'"),
        ([], "name a command; see pe-dense --help"),
    ],
)
def test_unknown_commands_are_told_the_nearest(words, said, capsys):
    assert console.main(words) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("error: ") and told.count("\n") == 1


def test_the_version(capsys):
    assert console.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pe-dense 0.")


def test_options_and_errors_are_those_of_the_tool(installed, tmp_path):
    done = pe_dense(installed, tmp_path, "prepare_data", "--help")  # an underscore does, too
    assert done.returncode == 0 and done.stdout.startswith("usage: pe-dense prepare-data ")
    done = pe_dense(installed, tmp_path, "leaderboard", "--help")
    assert "pe-dense leaderboard build" in done.stdout and "tools/" not in done.stdout
    done = pe_dense(installed, tmp_path, "train", "configs/detection/none.py")
    assert done.returncode == 2
    assert "error: config configs/detection/none.py does not exist" in done.stderr
    done = pe_dense(installed, tmp_path, "train", CONFIG, "--cfg-options", "data_root=nowhere")
    assert done.returncode == 2 and "run pe-dense prepare-data for data" in done.stderr


def test_protocols_are_found_by_id(installed, tmp_path):
    done = pe_dense(
        installed, tmp_path, "protocols", "diff", "nyu-linear-dinov3", "nyu-linear1-dinov2"
    )
    assert done.returncode == 0 and "no setting" not in done.stdout, done.stderr
    (tmp_path / "configs").mkdir()  # an own folder hides none of them
    again = pe_dense(
        installed, tmp_path, "protocols", "diff", "nyu-linear-dinov3", "nyu-linear1-dinov2"
    )
    assert again.stdout == done.stdout


@pytest.mark.slow
def test_a_record_is_as_from_the_repository(installed, tmp_path):
    build_mini_world(tmp_path / "data/mini", MiniWorldConfig(0, 4, 2, 3, 4, 64))
    words = ["configs/tracking/mini_v1.py", "--weights", "random", "--seed", "0"]
    done = pe_dense(installed, tmp_path, "test", *words, "--encoder", "pe_spatial_t16_512")
    assert done.returncode == 0, done.stderr[-2000:]
    [file] = (tmp_path / "work_dirs/records").rglob("*.json")
    record = json.loads(file.read_text())
    known = json.loads((REPO / "benchmarks/protocols.json").read_text()).values()
    assert record["protocol"]["config_sha256"] in [
        row["sha256"] for row in known if row["config"] == "configs/tracking/mini_v1.py"
    ]
    assert record["command"].startswith("pe-dense test configs/tracking/mini_v1.py --weights")
    assert record["code"] == {"commit": files_of_code(REPO), "dirty": False}
    done = pe_dense(installed, tmp_path, "leaderboard", "show")  # of ./work_dirs/records
    assert done.returncode == 0 and "mini-vos" in done.stdout and "files-" in done.stdout


# ---- paths of configs --------------------------------------------------------------------------


def test_configs_of_the_current_folder_go_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(CONFIG) == REPO / CONFIG
    assert find_config("configs/none.py") == Path("configs/none.py")
    assert find_config(Path("elsewhere") / CONFIG) == Path("elsewhere") / CONFIG
    own = tmp_path / CONFIG
    own.parent.mkdir(parents=True)
    own.write_text("mine = 1\n")
    assert find_config(CONFIG) == Path(CONFIG)
    (own.parent / "new.py").touch()
    found = config_files("configs/detection")
    assert found[Path(CONFIG)] == Path(CONFIG)
    assert Path("configs/detection/new.py") in found
    assert found[Path("configs/detection/deta_pe_t16_bccd.py")].is_relative_to(REPO)
    assert config_files(tmp_path / "configs/detection").keys() == {own, own.with_name("new.py")}


def test_suites_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suite = plan.load_suite("mini")
    [job] = plan.make_jobs(suite, ["pe_spatial_t16_512"])
    assert job.config.startswith("configs/")
    assert job.train_command()[1:4] == ["-m", "pe_dense", "train"]
    with pytest.raises(ValueError, match=r"known suites: .*finetune, .*mini"):
        plan.load_suite("mni")


# ---- what is called how ------------------------------------------------------------------------


def test_commands_in_records_can_be_typed_again(tmp_path, monkeypatch):
    argv = ["pe-dense test", CONFIG, str(tmp_path / "a.pth"), f"data_root={tmp_path}/b c"]
    monkeypatch.chdir(tmp_path)
    assert command_line(argv) == f"pe-dense test {CONFIG} a.pth 'data_root=b c'"
    assert typed(argv)[:2] == ["pe-dense", "test"]
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("GROUP_WORLD_SIZE", raising=False)
    launched = command_with_launcher(argv[:2], "pytorch", 2)
    assert launched == f"torchrun --nproc-per-node 2 --no-python pe-dense test {CONFIG}"


def test_advice_names_what_was_called():
    advice = "run python tools/prepare_data.py mini, or torchrun --nproc-per-node 2 tools/test.py C"
    assert texts.as_typed(advice, ["tools/test.py"]) == advice
    assert texts.as_typed(advice, ["pe-dense test"]) == (
        "run pe-dense prepare-data mini, or torchrun --nproc-per-node 2 --no-python pe-dense test C"
    )


def test_code_without_a_commit_is_known_by_its_files(installed, tmp_path):
    def copy(name):
        target = tmp_path / name
        for part in ("pe_dense", "configs", "tools"):
            shutil.copytree(
                REPO / part, target / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        return target

    known = files_of_code(installed / "pe_dense" / "repository")
    assert known.startswith("files-") and len(known) == 46
    checkout = copy("same")
    assert files_of_code(checkout) == known
    (checkout / "configs" / "more.py").touch()
    files_of_code.cache_clear()
    assert files_of_code(checkout) != known
