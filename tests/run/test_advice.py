"""What an error advises works when it is pasted: its commands, options and names exist."""

from __future__ import annotations

import ast
import errno
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pe_dense.run import command_line, completion, console
from pe_dense.run.command_line import Options, as_typed, parse_options, with_own_paths
from pe_dense.run.error_text import told
from pe_dense.run.listing import names_at_top, runnable_configs

REPO = Path(__file__).resolve().parents[2]
TOOLS = console.tools()
OPTIONS = {name: set(completion.options_of(file)) for name, file in TOOLS.items()}
NAMES = {"image_bits", "vis_backends", "keep_best"}.union(
    *(names_at_top(file) for file in runnable_configs().values())
)
# Files whose words are for other programs: torchrun, Slurm, pip.
FOR_OTHERS = {"slurm.py", "batch_script.py", "launch.py", "timm_vit.py"}
COMMAND = re.compile(r"(python |torchrun [^;]*)?\btools/(\w+)\.py((?: [^;,()`]+)?)")
# 'set name=', 'take --cfg-options name=': what a person is told to type.
SETTING = re.compile(r"(?:\bset|\btake|\bpass|--cfg-options) [\"']?([a-z_][\w.]*)=")


def messages() -> Iterator[tuple[str, str]]:
    """Place and text of all texts in code that a person may read; '{}' for what is put in."""
    for file in [*(REPO / "pe_dense").rglob("*.py"), *(REPO / "tools").rglob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        skip = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                skip |= {id(part) for part in node.values}
        for node in ast.walk(tree):
            text = ""
            if isinstance(node, ast.JoinedStr):
                text = "".join(
                    str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = "" if id(node) in skip else node.value
            if " " in text.strip() and file.name not in FOR_OTHERS:
                yield f"{file.relative_to(REPO)}:{node.lineno}", text


ALL = list(messages())


def test_commands_in_messages_are_tools_with_these_options() -> None:
    assert len(ALL) > 1000
    wrong = []
    for place, text in ALL:
        for before, name, rest in COMMAND.findall(text):
            tool = name.replace("_", "-")
            if tool not in TOOLS and name not in ("setup_environment", "compile_operators"):
                wrong.append((place, name))
            for option in re.findall(r"--[a-z][\w-]*", rest) if tool in TOOLS else ():
                if option not in OPTIONS[tool]:
                    wrong.append((place, f"{name}: {option}"))
            if rest and not before and re.match(r" (?:--|[A-Z{])", rest):
                wrong.append((place, f"tools/{name}.py is called without python"))
    assert not wrong


def test_options_in_messages_are_those_of_some_tool() -> None:
    known = set().union(*OPTIONS.values()) | {"--version", "--train-images", "--val-images"}
    of_subcommands = set(
        re.findall(
            r"\"(--[a-z][\w-]*)\"",
            "".join(f.read_text(encoding="utf-8") for f in (REPO / "pe_dense").rglob("*.py")),
        )
    )
    wrong = [
        (place, option)
        for place, text in ALL
        for option in re.findall(r"(?<![\w#-])--[a-z][\w-]*", text)
        if option not in known | of_subcommands and "torchrun" not in text
    ]
    assert not wrong


def test_names_in_advice_are_names_of_configs() -> None:
    wrong = [
        (place, name)
        for place, text in ALL
        for name in SETTING.findall(text)
        if name.split(".")[0] not in NAMES
        and not re.search(r"layers=|listed_depth|projection|class_ids|frozen|LayerScale", text)
    ]
    assert not wrong


def test_nothing_is_advised_that_a_shell_takes_apart() -> None:
    """Brackets and quotes within an option that stands in no quotes of its own."""
    wrong = [
        (place, found[0])
        for place, text in ALL
        for found in re.finditer(r"--cfg-options (?![\"'])[\w.]+=(?:\(|\[|\{'|')\S*", text)
    ]
    assert not wrong


# What is put in ---------------------------------------------------------------------------------


def test_a_kept_command_gets_the_paths_of_this_one() -> None:
    argv = ["tools/test.py", "c.py", "/disk/run", "--cfg-options", "data_root=/disk/my/bccd"]
    kept = "as in: python tools/train.py c.py --cfg-options data_root=/path/to/bccd a=/path/to/x"
    assert with_own_paths(kept, argv).endswith("data_root=/disk/my/bccd a=/path/to/x")
    assert with_own_paths("no path", argv) == "no path"


def test_resume_is_advised_where_the_tool_has_it() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "w/a.pth")
    try:
        raise full
    except OSError as error:
        assert told(error, ["/x/tools/train.py"]).endswith("start it again with --resume")
        assert told(error, ["pe-dense train"]).endswith("start it again with --resume")
        assert told(error, ["tools/test.py"]).endswith("then start it again")
        assert told(error, ["tools/export_student.py"]).endswith("then start it again")


# Lists ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("classes=[cat,dog]", ["cat", "dog"]),
        ("classes=cat,dog", ["cat", "dog"]),
        ("classes=[red cell, 7up]", ["red cell", "7up"]),
        ("classes=['a','b']", ["a", "b"]),
        ("classes=(cat,dog)", ["cat", "dog"]),
    ],
)
@pytest.mark.parametrize("old", [["a"], None], ids=["list", "found in the data"])
def test_lists_of_bare_words_are_lists(word: str, expected: list[str], old) -> None:
    pytest.importorskip("mmengine")
    from mmengine.config import Config

    from pe_dense.run.options import apply_options

    if old is None and word == "classes=cat,dog":
        return  # text is what stands there then
    cfg = Config(dict(classes=old, name="x"))
    apply_options(cfg, parse_options([word, "name=[a,b]"]), "c.py")
    assert list(cfg.classes) == expected and cfg.name == "[a,b]"


@pytest.mark.parametrize(
    ("key", "value", "form"),
    [
        ("classes", "cat", "classes=[a,b]"),
        ("size", "big", "size=64,64"),
        ("part", "x", "part={'type':'NAME'}"),
    ],
)
def test_what_is_refused_names_a_form_that_a_shell_keeps_and_that_is_taken(key, value, form):
    pytest.importorskip("mmengine")
    from mmengine.config import Config

    from pe_dense.run.options import apply_options

    cfg = Config(dict(classes=["a"], size=(1, 1), part=dict(type="X")))
    with pytest.raises(ValueError, match="such as") as refused:
        apply_options(cfg, parse_options([f"{key}={value}"]), "c.py")
    advice = str(refused.value).partition("such as ")[2]
    done = subprocess.run(["bash", "-c", f"echo {advice}"], capture_output=True, text=True)
    assert done.stdout.strip() == form
    apply_options(cfg, parse_options(shlex.split(advice)), "c.py")


# TensorBoard and others -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "vis_backends=TensorboardVisBackend",
        "vis_backends=TensorBoard",
        "visualizer=tensorboard",
        "visualizer=[tensorboard]",
        "visualizer.vis_backends=tensorboard",
        "visualizer.vis_backends=[tensorboard]",
    ],
)
def test_forms_that_people_type(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmengine")
    from pe_dense.run import vis_backends
    from pe_dense.run.config import load_config

    there = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: object()))
    monkeypatch.setattr(vis_backends, "importlib", there)
    config = REPO / "configs/alignment/spatial_align_t16_mini.py"
    cfg, _ = load_config(config, options=parse_options([word]))
    vis_backends.use_vis_backends(cfg)
    types = [each["type"] for each in cfg.visualizer.vis_backends]
    assert types == ["LocalVisBackend", "TensorboardVisBackend"]


@pytest.mark.parametrize("word", ["vis_backends.0.type=X", "visualizer.type=Visualizer"])
def test_other_forms_are_told_the_right_one(word: str) -> None:
    pytest.importorskip("mmengine")
    from pe_dense.run.config import load_config

    config = REPO / "configs/alignment/spatial_align_t16_mini.py"
    with pytest.raises(ValueError, match="write --cfg-options vis_backends=tensorboard, or '"):
        load_config(config, options=parse_options([word]))


def test_tensorboard_is_an_extra_that_pip_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmengine")
    from mmengine.config import Config

    from pe_dense.run import vis_backends

    absent = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    monkeypatch.setattr(vis_backends, "importlib", absent)
    with pytest.raises(ValueError, match=r'pip install "pe_dense\[tensorboard\]"$'):
        vis_backends.use_vis_backends(Config(dict(vis_backends="tensorboard")))
    assert '"tensorboard"' in (REPO / "setup.py").read_text()


def test_commands_in_texts_are_typed_as_the_tool_was() -> None:
    assert as_typed("see python tools/train.py --list", ["pe-dense test"]) == (
        "see pe-dense train --list"
    )
    assert isinstance(parse_options([]), Options) and command_line.USER_ERROR == 2
