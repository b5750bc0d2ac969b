"""What a slip of the pen is answered with, and what there is to choose from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pe_dense.encoders.zoo import ENCODERS, find_encoder
from pe_dense.run import command_line, completion, console
from pe_dense.run.listing import first_sentence, listed, listing, names_at_top

REPO = Path(__file__).resolve().parents[2]
MINI = "configs/detection/atss_pe_t16_mini.py"


def refusal(parser: command_line.Parser, words: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as leaving:
        parser.parse_args(words)
    assert leaving.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["c", "--enocder", "x"], "did you mean --encoder?"),
        (["c", "--cfg-option", "a=1"], "did you mean --cfg-options?"),
        (["c", "--workdir", "w"], "did you mean --work-dir?"),
        (["c", "--launcher", "pytroch"], "did you mean pytorch?"),
        (["c", "--launcher", "xyzzy"], "see "),
        (["c", "--xyzzy"], "see "),
    ],
)
def test_flags_and_choices(words: list[str], said: str, capsys) -> None:
    parser = command_line.Parser()
    parser.add_argument("config")
    command_line.add_run_options(parser)
    text = refusal(parser, words, capsys)
    assert said in text and text.count("\n") == 1


def test_options_of_subcommands(capsys) -> None:
    parser = command_line.Parser()
    inner = parser.add_subparsers().add_parser("export")
    inner.add_argument("--out")
    inner.add_argument("format", choices=("csv", "latex"))
    assert "did you mean csv?" in refusal(parser, ["export", "cvs"], capsys)
    assert "did you mean --out?" in refusal(parser, ["export", "csv", "--outt", "x"], capsys)


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("pe_spatial_b16", "pe_spatial_b16_512"),
        ("PE-Spatial-B16-512", "pe_spatial_b16_512"),
        ("pe_spatial", "pe_spatial_g14_448"),
        ("dinov2b14", "dinov2_b14"),
    ],
)
def test_encoders(typed: str, first: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean {first}[,?]"):
        find_encoder(typed)


def test_configs_and_their_options() -> None:
    pytest.importorskip("mmengine")
    from pe_dense.run.config import load_config, load_template

    with pytest.raises(ValueError, match="did you mean configs/detection/deta_pe_t16_bccd.py"):
        load_template("configs/detection/deta_t16_bccd.py")
    for key, near in [
        ("max_epoch", "max_epochs"),
        ("Batch-Size", "batch_size"),
        ("train_config.val_interval", "train_cfg"),
        ("vis_backend", "vis_backends"),
    ]:
        with pytest.raises(ValueError, match=f"did you mean {near}"):
            load_template(REPO / MINI, options={key: 3})
    with pytest.raises(ValueError, match=r"did you mean model\.backbone\.frozen\?"):
        load_template(REPO / MINI, options={"model.bakbone.frozen": True})
    with pytest.raises(ValueError, match="its top-level names are"):
        load_template(REPO / MINI, options={"zzz": 1})
    # A new setting of a part is the part's own to know.
    load_config(REPO / MINI, options={"model.backbone.remainder": "pad"})


def test_an_argument_that_a_part_does_not_know_is_answered_with_its_own() -> None:
    pytest.importorskip("mmengine")
    pytest.importorskip("torch")
    from mmengine.registry import MODELS

    import pe_dense.openmmlab.backbone  # noqa: F401
    from pe_dense.run.error_text import told

    try:
        MODELS.build(dict(type="DenseBackbone", encoder="pe_spatial_t16_512", out_indicse=[1]))
    except TypeError as error:
        text = told(error)
    assert text is not None and text.endswith("did you mean out_indices?")


# Lists ------------------------------------------------------------------------------------------


def test_every_config_has_a_line_and_words_choose() -> None:
    configs = listed("configs")
    files = [f for f in (REPO / "configs").rglob("*.py") if not {"_base_", "suites"} & {*f.parts}]
    assert len(configs) == len(files) and all(configs.values())
    assert all(10 < len(text) < 140 and "\n" not in text for text in configs.values())
    lines = listing(["detection", "bccd"]).splitlines()
    assert lines == sorted(lines) and len(lines) >= 4
    assert all("detection" in line and "bccd" in line.lower() for line in lines)
    assert len(listing(["encoders"]).splitlines()) == len(ENCODERS)
    assert "non-commercial" in listing(["encoders", "mae_b16"])
    suites = listing(["suites"]).splitlines()
    assert suites == sorted(suites) and any(line.startswith("demo ") for line in suites)
    with pytest.raises(ValueError, match="did you mean detection"):
        listing(["detecton"])
    with pytest.raises(ValueError, match="give fewer words"):
        listing(["zzzz"])


def test_a_header_of_one_sentence_over_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('r"""Linear head on T/16 of the\nmini world. More.\n\nCost: 1 min.\n"""\n')
    assert first_sentence(file) == "Linear head on T/16 of the mini world"
    file.write_text("a = 1\n")
    assert first_sentence(file) == ""


def test_names_that_options_may_set_come_from_bases_too() -> None:
    names = names_at_top(REPO / MINI)
    assert {"encoder", "batch_size", "default_hooks"} <= set(names) and "_base_" not in names


# Completion -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tra"], {"train"}),
        (["train", "configs/detection/atss_pe_t16_mini."], {MINI}),
        (["train", MINI, "--enc"], {"--encoder"}),
        (["train", MINI, "--encoder", "pe_spatial_b"], {"pe_spatial_b16_512"}),
        (["train", MINI, "--cfg-options", "max_e"], {"max_epochs="}),
        (["test", MINI, "--weights", "r"], {"random", "released"}),
        (["visualize", "det"], {"detect"}),
        (["leaderboard", "comp"], {"compare"}),
        (["prepare-data", "mi"], {"mini", "mini2"}),
        (["list", "e"], {"encoders"}),
        (["completion", ""], {"bash", "zsh"}),
        (["no-such-tool", "x"], set()),
    ],
)
def test_words_are_completed(words: list[str], expected: set[str]) -> None:
    assert set(completion.complete(words, console.tools())) == expected


def test_options_that_are_completed_are_those_of_the_tool() -> None:
    for name in ("train", "test", "benchmark"):
        file = console.tools()[name]
        done = subprocess.run(
            [sys.executable, str(file), "--help"], capture_output=True, text=True, check=True
        )
        own = set(re.findall(r"^  (?:-\w, )?(--[a-z][\w-]*)", done.stdout, re.M))
        assert own <= set(completion.options_of(file)), name


def test_the_script_of_the_shell_asks_the_program(tmp_path: Path) -> None:
    command = tmp_path / "pe-dense"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{REPO}" exec "{sys.executable}" -m pe_dense "$@"\n')
    command.chmod(0o755)
    lines = (
        f'export PATH="{tmp_path}:$PATH"; eval "$(pe-dense completion bash)"; '
        'COMP_WORDS=(pe-dense train --enc); COMP_CWORD=2; _pe_dense; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "--encoder"


@pytest.mark.parametrize("words", [["list", "encoders"], ["train", "--list", "bccd"], ["--help"]])
def test_lists_and_help_load_no_torch(words: list[str]) -> None:
    code = (
        "import sys; from pe_dense.run.console import main\n"
        f"try:\n    code = main({words!r})\n"
        "except SystemExit as leaving:\n    code = leaving.code\n"
        "assert not code, code\nassert not {'torch', 'mmengine'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_wrong_words_of_lists_are_exit_code_2(capsys) -> None:
    assert console.main(["completion", "fish"]) == 2
    assert console.main(["list", "zzzz"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
