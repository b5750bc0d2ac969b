"""What a person reads when something is wrong: one line, exit code 2, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pe_dense.run import command_line
from pe_dense.run.command_line import parse_options, sentence

REPO = Path(__file__).resolve().parents[2]
MINI = str(REPO / "configs" / "detection" / "dino_pe_t16_mini.py")


# Options


def test_options_are_literals_or_text() -> None:
    words = [
        "a=3", "b=1e-4", "c=[(1,2),(3,4)]", "d=data/x=y", "e=None", "f=true", "g=False",
        "h='7'", "i={'k':1}", "j=", "model.neck.scales=(2,1)", "k=None of these",
    ]  # fmt: skip
    assert parse_options(words) == {
        "a": 3, "b": 1e-4, "c": [(1, 2), (3, 4)], "d": "data/x=y", "e": None, "f": True,
        "g": False, "h": "7", "i": {"k": 1}, "j": "", "model.neck.scales": (2, 1),
        "k": "None of these",
    }  # fmt: skip
    assert parse_options([]) == {}


def test_options_add_up_and_none_is_given_twice() -> None:
    parser = command_line.Parser()
    command_line.add_run_options(parser)
    words = [
        "--cfg-options",
        "a=1",
        "b=2",
        "--accept",
        "x",
        "--cfg-options",
        "c=3",
        "--accept",
        "y",
    ]
    args = parser.parse_args(words)
    assert parse_options(args.cfg_options) == {"a": 1, "b": 2, "c": 3} and args.accept == ["x", "y"]
    assert parser.parse_args([]).cfg_options == []
    with pytest.raises(ValueError, match="gives a twice, '1' and '2'"):
        parse_options(["a=1", "b=1", "a=2"])


@pytest.mark.parametrize("word", ["max_epochs", "=3", "--lr"])
def test_a_word_that_is_no_option(word: str) -> None:
    with pytest.raises(ValueError, match="is not KEY=VALUE"):
        parse_options([word])


# Sentences


def test_sentence_of_a_plain_error_is_its_message_on_one_line() -> None:
    assert sentence(ValueError("image a.jpg\n  is   missing")) == "image a.jpg is missing"


def test_sentence_of_a_loading_worker_is_the_last_line() -> None:
    try:
        try:
            raise ValueError("image /d/a.jpg cannot be decoded (error); replace the file")
        except ValueError as error:
            import traceback

            text = "".join(traceback.format_exception(error))
            raise ValueError(
                f"Caught ValueError in DataLoader worker process 0.\nOriginal {text}"
            ) from None
    except ValueError as error:
        found = sentence(error)
    assert found == "image /d/a.jpg cannot be decoded (error); replace the file"


def test_sentence_of_a_real_worker() -> None:
    torch_data = pytest.importorskip("torch.utils.data")

    class Broken(torch_data.Dataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> None:
            raise ValueError("image x.jpg is missing; Error: 5 is part of the message")

    with pytest.raises(ValueError) as error:
        list(torch_data.DataLoader(Broken(), num_workers=1))
    assert "Traceback" in str(error.value)
    assert sentence(error.value) == "image x.jpg is missing; Error: 5 is part of the message"


def test_sentence_of_a_registry_is_unwrapped() -> None:
    text = (
        "class `DINO` in mmdet/models/detectors/dino.py: class `DenseBackbone` in "
        "pe_dense/encoders/backbone.py: unknown encoder 'x'"
    )
    assert sentence(ValueError(text)) == "unknown encoder 'x'"


def test_sentence_of_a_real_registry() -> None:
    registry = pytest.importorskip("mmengine.registry").MODELS
    pytest.importorskip("torch")
    import pe_dense.openmmlab.backbone  # noqa: F401

    with pytest.raises(ValueError) as error:
        registry.build(dict(type="DenseBackbone", encoder="pe_spatial_t16_512", amp_dtype="half"))
    assert sentence(error.value).startswith("amp_dtype='half' is not one of")


# Exit codes


def exit_of(main: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as leaving:
        command_line.run(main)
    return leaving.value.code, capsys.readouterr().err


def test_errors_become_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PE_DENSE_TRACEBACK", raising=False)

    def wrong() -> None:
        raise ValueError("lr is -1\nuse a positive number")

    assert exit_of(wrong, capsys) == (2, "error: lr is -1 use a positive number\n")
    assert exit_of(lambda: None, capsys) == (0, "")
    assert exit_of(lambda: 1, capsys) == (1, "")

    def stop() -> None:
        raise KeyboardInterrupt

    code, text = exit_of(stop, capsys)
    assert code == 130 and text.startswith("stopped; begin again with: python ")
    monkeypatch.setenv("PE_DENSE_TRACEBACK", "1")
    code, text = exit_of(wrong, capsys)
    assert code == 2 and "Traceback" in text and text.endswith("use a positive number\n")


def test_files_that_cannot_be_used_are_user_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for action in (
        lambda: (tmp_path / "absent").read_text(),
        lambda: (tmp_path / "file" / "work_dir").mkdir(),
        lambda: (tmp_path / "file").mkdir(),
        lambda: tmp_path.read_bytes(),
    ):
        code, text = exit_of(action, capsys)
        assert code == 2 and str(tmp_path) in text and text.count("\n") == 1


def test_a_bug_keeps_its_traceback() -> None:
    def bug() -> None:
        raise AttributeError("oops")

    with pytest.raises(AttributeError):
        command_line.run(bug)


# The tools as they are typed


def refusal_of(tool: str, *arguments: object) -> str:
    """Run a tool that must fail; return its one line."""
    done = subprocess.run(
        [sys.executable, str(REPO / "tools" / f"{tool}.py"), *map(str, arguments)],
        cwd=REPO, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


def test_train_with_an_unknown_encoder(tmp_path: Path) -> None:
    line = refusal_of("train", MINI, "--encoder", "pe_spatial_t16", "--work-dir", tmp_path / "w")
    assert "unknown encoder 'pe_spatial_t16'" in line and "pe_spatial_t16_512" in line
    assert not (tmp_path / "w").exists()


def test_test_with_a_checkpoint_that_would_run_code(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class RunsCode:
        def __reduce__(self) -> tuple:
            return Path.mkdir, (tmp_path / "made",)

    torch.save({"state_dict": {}, "meta": RunsCode()}, tmp_path / "evil.pth")
    line = refusal_of("test", MINI, tmp_path / "evil.pth", "--no-record")
    assert "evil.pth holds objects that could run code" in line
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("tool", ["train", "test"])
def test_wrong_arguments(tool: str) -> None:
    line = refusal_of(tool, MINI, "somewhere", "--zzz")
    assert "--zzz" in line and "--help" in line


# The same functions in this process: starting Python and torch costs seconds


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    return tmp_path / "work"


def train_refusal(work_dir: Path, **arguments: object) -> str:
    pytest.importorskip("pe_dense.run.training")
    from runs import train

    arguments = {"config": MINI, "work_dir": work_dir} | arguments
    with pytest.raises(ValueError) as error:
        train(**arguments)
    return sentence(error.value)


def evaluate_refusal(checkpoint: Path, **arguments: object) -> str:
    pytest.importorskip("pe_dense.run.evaluation")
    from runs import evaluate

    with pytest.raises(ValueError) as error:
        evaluate(**{"config": MINI, "checkpoint": checkpoint} | arguments)
    return sentence(error.value)


def toy(mini_root: Path, **options: object) -> dict[str, object]:
    small = dict(num_queries=20, train_scales=[(64, 64)], image_scale=(64, 64), max_epochs=1)
    return {"data_root": str(mini_root / "coco"), **small, "val_interval": 1, **options}


def test_missing_config(work_dir: Path) -> None:
    assert "configs/absent.py does not exist" in train_refusal(work_dir, config="configs/absent.py")


def test_missing_data(work_dir: Path, tmp_path: Path) -> None:
    message = train_refusal(work_dir, options={"data_root": str(tmp_path / "absent")})
    assert f"data_root {tmp_path / 'absent'} does not exist" in message
    assert not work_dir.exists(), "nothing is written before the data is known to be good"


def test_missing_weights(work_dir: Path, mini_root: Path) -> None:
    message = train_refusal(work_dir, weights="/absent/w.pt", options=toy(mini_root))
    assert message.startswith("weights file /absent/w.pt does not exist")


def test_work_dir_that_holds_a_run(work_dir: Path, mini_root: Path) -> None:
    work_dir.mkdir()
    (work_dir / "epoch_1.pth").write_bytes(b"precious")
    (work_dir / "last_checkpoint").write_text(str(work_dir / "epoch_1.pth"))
    message = train_refusal(work_dir, options=toy(mini_root))
    assert str(work_dir) in message and "--resume" in message and "--work-dir" in message
    assert (work_dir / "epoch_1.pth").read_bytes() == b"precious"


def test_resuming_from_a_damaged_checkpoint(work_dir: Path, mini_root: Path) -> None:
    work_dir.mkdir()
    (work_dir / "epoch_1.pth").write_bytes(b"damaged")
    (work_dir / "last_checkpoint").write_text(str(work_dir / "epoch_1.pth"))
    message = train_refusal(work_dir, resume=True, options=toy(mini_root))
    assert "epoch_1.pth is damaged" in message and "earlier one" in message
    assert (work_dir / "epoch_1.pth").read_bytes() == b"damaged"


def spoiled_copy(mini_root: Path, folder: Path) -> tuple[Path, Path]:
    """A mini world of which one training picture is garbage."""
    root = folder / "spoiled"
    shutil.copytree(mini_root / "coco", root / "coco")
    picture = sorted((root / "coco" / "images" / "train").iterdir())[0]
    picture.write_bytes(b"garbage")
    return root, picture


def test_undecodable_image_is_found_before_training(
    work_dir: Path, mini_root: Path, tmp_path: Path
) -> None:
    root, picture = spoiled_copy(mini_root, tmp_path)
    message = train_refusal(work_dir, options=toy(root))
    assert f"image {picture} cannot be decoded" in message
    assert not work_dir.exists()


def test_undecodable_image_of_a_large_set_is_named_by_the_worker(
    work_dir: Path, mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mmdet")
    monkeypatch.setattr("pe_dense.detection.coco_check.NUM_DECODED", 0)
    root, picture = spoiled_copy(mini_root, tmp_path)
    whole = (mini_root / picture.relative_to(root)).read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])  # its head is there
    message = train_refusal(work_dir, options=toy(root))
    assert message.startswith(f"image {picture} cannot be decoded")
    assert "Traceback" not in message


@pytest.fixture(scope="module")
def checkpoint(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as training under the toy settings writes it, of a model that did not train."""
    pytest.importorskip("mmdet")
    import torch
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    from pe_dense.run.config import load_config
    from pe_dense.run.protocol import config_sha256, protocol_settings

    register_all_modules(init_default_scope=True)
    cfg, template = load_config(MINI, options=toy(mini_root))
    facts = dict(
        encoder=cfg.encoder,
        protocol_sha256=config_sha256(protocol_settings(template)),
        train_command="python tools/train.py the-config",
        seed=0,
        amp=False,
        world_size=1,
        start_from=None,
        commit="0" * 40,
        dirty=False,
        train_seconds=1.0,
        weights=dict(source="random", sha256="random", notes=()),
    )
    file = tmp_path_factory.mktemp("run") / "epoch_1.pth"
    model = MODELS.build(cfg.model)
    model.init_weights()  # mmdet leaves some parameters uninitialised until then
    torch.save({"state_dict": model.state_dict(), "meta": {"pe_dense": facts}}, file)
    return file


def test_a_good_checkpoint_is_scored_and_recorded_once(
    checkpoint: Path, mini_root: Path, tmp_path: Path
) -> None:
    """The refusals below mean something: without a fault the same call works."""
    from runs import evaluate

    arguments = dict(
        config=MINI, checkpoint=checkpoint, options=toy(mini_root), work_dir=tmp_path / "logs",
        records=tmp_path / "records",
    )  # fmt: skip
    scores = evaluate(**arguments)
    assert 0.0 <= scores["AP"] <= 1.0
    (record,) = (tmp_path / "records").rglob("*.json")
    assert json.loads(record.read_text())["scores"]["AP"] == pytest.approx(scores["AP"])
    before = record.read_bytes()
    with pytest.raises(ValueError, match="already holds this result; pass --supersede"):
        evaluate(**arguments)
    assert record.read_bytes() == before


def test_where_no_record_can_be_written_nothing_is_scored(
    checkpoint: Path, mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runs import evaluate

    from pe_dense.run import evaluation

    def never(*arguments: object) -> None:
        raise AssertionError("nothing may start")

    for name in ("check_data", "build_runner"):
        monkeypatch.setattr(evaluation, name, never)
    (tmp_path / "file").write_text("no folder")
    arguments = dict(config=MINI, checkpoint=checkpoint, options=toy(mini_root))
    with pytest.raises(ValueError, match=r"file is no folder; name another .*--records, or pass"):
        evaluate(**arguments, records=tmp_path / "file" / "records")

    def read_only(path: Path, data: bytes) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", read_only)
    with pytest.raises(ValueError, match=r"cannot be written \(Read-only file system\); name"):
        evaluate(**arguments, records=tmp_path / "records")
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize("supersede", [False, True])
@pytest.mark.parametrize("trained", [True, False])
def test_the_very_folder_of_the_weights_is_tried(
    checkpoint: Path, mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    trained: bool, supersede: bool,
) -> None:  # fmt: skip
    """The root and the encoder's folder can be written, that of its weights cannot."""
    from mmengine.runner import Runner
    from runs import evaluate

    def never(*arguments: object) -> None:
        raise AssertionError("nothing may be scored")

    monkeypatch.setattr(Runner, "test", never)
    records = tmp_path / "records"
    folder = records / "pe_spatial_t16_512/random"
    folder.parent.mkdir(parents=True)
    folder.write_text("of somebody else")
    config, file, options = MINI, checkpoint, toy(mini_root)
    if not trained:
        config, file = "configs/tracking/mini_layers.py", None
        options = {"data_root": str(mini_root / "davis")}
    with pytest.raises(ValueError, match=r"no record could be written: .*random is no folder"):
        evaluate(
            config=config, checkpoint=file, options=options, work_dir=tmp_path / "logs",
            records=records, supersede=supersede,
        )  # fmt: skip


def changed_checkpoint(checkpoint: Path, folder: Path, change: object) -> Path:
    import torch

    content = torch.load(checkpoint, weights_only=True)
    change(content)
    torch.save(content, folder / "changed.pth")
    return folder / "changed.pth"


def test_missing_and_damaged_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    assert "absent.pth does not exist" in evaluate_refusal(tmp_path / "absent.pth")
    assert "holds no finished checkpoint" in evaluate_refusal(tmp_path)
    half = tmp_path / "half.pth"
    half.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
    assert "half.pth is damaged" in evaluate_refusal(half)


def test_checkpoint_of_another_tool(checkpoint: Path, tmp_path: Path) -> None:
    file = changed_checkpoint(checkpoint, tmp_path, lambda content: content.pop("meta"))
    assert "changed.pth was not written by tools/train.py" in evaluate_refusal(file)


def test_checkpoint_of_another_encoder(checkpoint: Path, mini_root: Path) -> None:
    message = evaluate_refusal(checkpoint, encoder="pe_spatial_s16_512", options=toy(mini_root))
    assert "holds pe_spatial_t16_512, not pe_spatial_s16_512" in message


def test_checkpoint_of_other_settings_names_the_command(checkpoint: Path, mini_root: Path) -> None:
    message = evaluate_refusal(checkpoint, options=toy(mini_root, num_queries=21))
    assert "trained under other settings" in message
    assert "python tools/train.py the-config" in message


def test_checkpoint_of_another_class_count(
    checkpoint: Path, mini_root: Path, tmp_path: Path
) -> None:
    import torch

    def shrink(content: dict) -> None:
        state = content["state_dict"]
        for name in [n for n in state if "cls_branches" in n or "label_embedding" in n]:
            state[name] = torch.zeros(4, *state[name].shape[1:])

    file = changed_checkpoint(checkpoint, tmp_path, shrink)
    message = evaluate_refusal(file, options=toy(mini_root), work_dir=tmp_path / "logs")
    assert "changed.pth does not fit the model" in message
    assert "the checkpoint has 4 classes and the config 6" in message


@pytest.mark.parametrize("tool", ["train", "test", "visualize segment", "visualize track"])
def test_every_tool_whose_check_names_accept_has_it(tool: str) -> None:
    script, *command = tool.split()
    done = subprocess.run(
        [sys.executable, str(REPO / "tools" / f"{script}.py"), *command, "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert "--accept FAULT" in done.stdout
