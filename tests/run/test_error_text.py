"""Which errors become a sentence, and which stay bugs with a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("mmcv")

import mmcv.transforms  # noqa: F401
import numpy as np
from mmengine.dataset import BaseDataset, Compose, ConcatDataset
from mmengine.registry import TRANSFORMS
from torch.utils.data import DataLoader

from pe_dense.openmmlab.named_pipeline import NamedPipeline, name_files_in_errors
from pe_dense.run.command_line import parse_options
from pe_dense.run.config import load_config, load_template
from pe_dense.run.error_text import told
from pe_dense.run.request import RunRequest

ATSS = Path(__file__).resolve().parents[2] / "configs/detection/atss_pe_t16_mini.py"
OPTIONS = ["train.py", "c.py", "--work-dir", "w", "--cfg-options", "a=1", "b.c=x", "--amp"]


def error_of(action: Callable[[], object]) -> Exception:
    try:
        action()
    except Exception as error:  # whatever it is, it is looked at
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "The operator 'aten::grid_sampler_2d_backward' is not currently implemented for the "
            "MPS device. If you want this op to be considered for addition please comment",
            "no operator aten::grid_sampler_2d_backward on the device 'mps'; set "
            "PYTORCH_ENABLE_MPS_FALLBACK=1",
        ),
        (
            "Could not run 'aten::_x' with arguments from the 'XPU' backend. This could be because",
            "no operator aten::_x on the device 'xpu'; set PYTORCH_ENABLE_XPU_FALLBACK=1",
        ),
        (
            "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support "
            "float64. Please use float32 instead.",
            "needs float64, which the device 'mps' has not; set PE_DENSE_DEVICE=cpu",
        ),
    ],
)
def test_what_another_gpu_lacks_is_one_sentence(message: str, words: str) -> None:
    def fails() -> None:
        raise (TypeError if "float64" in message else NotImplementedError)(message)

    found = told(error_of(fails), OPTIONS)
    assert words in found and "\n" not in found


def own_bug() -> None:
    raise AttributeError("oops")


# Sentences and bugs -----------------------------------------------------------------------------


def test_what_a_library_raises_in_a_run_names_the_options() -> None:
    error = error_of(lambda: Compose([3]))  # TypeError in mmengine
    text = told(error, OPTIONS)
    assert text.startswith("TypeError: transform must be") and "options a=1 b.c=x: corr" in text
    assert told(error, OPTIONS[:4]) is None


def test_bugs_stay_bugs() -> None:
    assert told(error_of(own_bug), OPTIONS) is None
    assert told(error_of(lambda: {}["absent"]), OPTIONS) is None


def test_a_part_that_cannot_be_built_is_named() -> None:
    flip = dict(type="RandomFlip", prob=0.5, direction="up")
    text = told(error_of(lambda: TRANSFORMS.build(flip)))
    assert text.startswith(
        "RandomFlip cannot be built from its settings (AssertionError: assert dir"
    )
    text = told(error_of(lambda: TRANSFORMS.build(dict(type="Resize", sise=3))))
    assert "Resize cannot be built" in text and "sise" in text
    text = told(error_of(lambda: TRANSFORMS.build(dict(type="Resise"))))
    assert "nothing is called 'Resise' in " in text and "::transform; correct the type" in text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("90 GB"), "not enough memory (90 GB); lower"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "CUDA out of memory; lower"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "num_workers"),
        (OSError(28, "No space left on device", "w/epoch_1.pth"), "w/epoch_1.pth: No space"),
        (OSError(27, "File too large"), "File too large; free space where the run writes"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "free space"),
        (OSError(13, "Permission denied", "w/x"), "w/x may not be read or written; change its"),
        (OSError(20, "Not a directory", "w/x"), "w/x is not a folder, or lies below a file"),
        (OSError("image w/x is missing"), "image w/x is missing"),
        (KeyError("x is not in the a::b c registry"), "nothing is called 'x' in a::b c"),
    ],
)
def test_what_the_machine_lacks(error: Exception, words: str) -> None:
    assert words in told(error)


# Pipelines --------------------------------------------------------------------------------------


class Data(BaseDataset):
    def load_data_list(self) -> list[dict]:
        return [{"img_path": f"/data/{name}.jpg"} for name in "ab"]


def fails_in_a_library(data: dict) -> dict:
    return np.stack([np.zeros(1), np.zeros(2)])


def has_a_bug(data: dict) -> dict:
    return data["boxes"]


def says_so_itself(data: dict) -> dict:
    raise ValueError(f"image {data['img_path']} is too dark; replace it")


def loader_of(step: Callable, workers: int) -> DataLoader:
    dataset = ConcatDataset([Data(pipeline=[step])])
    name_files_in_errors(dataset)
    assert type(dataset.datasets[0].pipeline) is NamedPipeline
    return DataLoader(dataset, num_workers=workers, collate_fn=list)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_library_that_fails_on_a_sample(workers: int) -> None:
    error = error_of(lambda: list(loader_of(fails_in_a_library, workers)))
    text = told(error, OPTIONS)
    assert text.startswith("sample /data/a.jpg fails in function (ValueError: all input arrays")
    assert "correct the file, its annotations" in text and "options" not in text


def test_sentences_and_bugs_pass_through_a_pipeline() -> None:
    text = told(error_of(lambda: list(loader_of(says_so_itself, 0))))
    assert text == "image /data/a.jpg is too dark; replace it"
    # This file lies outside the package, so the step counts as a library's.
    assert "fails in function (KeyError: 'boxes')" in told(
        error_of(lambda: list(loader_of(has_a_bug, 0)))
    )


# Options ----------------------------------------------------------------------------------------


def given(*words: str, config: Path = ATSS) -> dict:
    return load_template(config, options=parse_options(words))


@pytest.mark.parametrize("text", ["2024", "007", "1e5", "True", "0x10", "3.0"])
def test_numbers_are_text_where_text_is_expected(text: str) -> None:
    cfg, _ = load_config(ATSS, options=parse_options([f"data_root={text}", f"train_images={text}"]))
    assert cfg.data_root == text and cfg.train_dataloader.dataset.data_root == text
    assert cfg.train_dataloader.dataset.data_prefix.img == text


@pytest.mark.parametrize("text", ["2024", "1_000", "True"])
def test_paths_that_a_config_leaves_open_are_text(text: str) -> None:
    own = ATSS.with_name("deta_custom.py")
    cfg = given(f"data_root={text}", f"train_images={text}", "load_from=None", config=own)
    assert cfg.data_root == cfg.train_images == text and cfg.load_from is None


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("train_dataloader.batch_size=abc", "the config has 4 there; give a number"),
        ("batch_size=abc", "the config has 4 there; give a number"),
        ("lr=None", "the config has 0.001 there; give a number"),
        ("classes=None", "give a list"),
        ("train_scales=64", "give a list"),
        ("model.test_cfg.nms=3", "give a dict"),
        ("model.test_cfg.max_per_img=x", "the config has 100 there; give a number"),
        ("protocol=3", "give a dict"),
        ("image_scale=abc", "give a tuple"),
        ("resume=3", "give True or False"),
        ("resume=None", "the config has False there; give True or False"),
        ("data_root=None", "give a text"),
        ("data_root=[1]", "a file or folder is text; give its path"),
        ("load_from=[1]", "a file or folder is text; give its path"),
    ],
)
def test_values_of_another_kind(word: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        given(word)
    assert str(error.value).startswith(f"--cfg-options {word}")


def test_none_turns_off_what_may_be_off() -> None:
    nyu = ATSS.parents[1] / "depth/nyu_linear1_dinov2.py"
    assert given("score_crop=None", config=nyu).score_crop is None


@pytest.mark.parametrize(
    "word",
    [
        "val_interval=0", "max_epochs=0", "batch_size=1.5", "image_scale=(0,0)",
        "image_scale=(-32,32)", "image_scale=(32,)", "crop_size=32", "crop_size=(32.0,32.0)",
        "ratio_range=(0,0)", "ratio_range=(2,1)", "ratio_range=(0.5,)",
    ],
)  # fmt: skip
def test_values_that_a_name_cannot_have(word: str) -> None:
    config = ATSS.parents[1] / "segmentation/linear_pe_t16_mini.py"
    with pytest.raises(ValueError, match=rf"of config {config} must be ") as error:
        load_config(config, options=parse_options([word]))
    name, _, value = word.partition("=")
    assert str(error.value).replace(" ", "").startswith(f"{name}={value}of")


@pytest.mark.parametrize(
    "word",
    ["batch_size=8", "lr=1", "train_scales=[(1,2)]", "image_scale=64", "load_from=None",
     "test_dataloader=None", "max_epochs=$val_interval", "model.bbox_head.new=3"],
)  # fmt: skip
def test_values_of_the_same_kind(word: str) -> None:
    given(word)


@pytest.mark.parametrize("name", ["nope", "nope:x", "os:nope", "3"])
def test_checks_that_do_not_exist(name: str) -> None:
    from pe_dense.run.config import check_data

    with pytest.raises(ValueError, match="names no function .* write 'package.module:function'"):
        check_data(given(f"data_check={name}"), ("test",))


def test_a_model_that_is_none() -> None:
    with pytest.raises(ValueError, match="has model=None; a run needs a dict there"):
        load_config(ATSS, options={"model": None})


@pytest.mark.parametrize("content", ["", "encoder = 'pe_spatial_t16_512'\nmodel = dict(type='A')"])
def test_a_config_that_is_none_of_a_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.py").write_text(content)
    with pytest.raises(ValueError, match=r"c\.py has no '\w+', which every run needs"):
        RunRequest(str(tmp_path / "c.py")).load()


def test_a_seed_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"--seed -1 must be 0 to"):
        RunRequest(str(ATSS), seed=-1).load()
