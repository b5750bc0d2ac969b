"""Sound small sets with one defect each: the number of the sound set, or one sentence.

What `tools/test.py` does, in this process and without a network: the config is resolved, its data
are checked, loaded by its pipelines and scored by its metric; a function that looks at the loaded
picture stands in for the model. Where the check of `tools/train.py` is asked for, it comes before.
"""

from __future__ import annotations

import copy
import gc
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from pe_dense.run.command_line import sentence
from pe_dense.run.config import check_data, load_config

# What a tool turns into one sentence and exit code 2 (`command_line.run`).
REFUSALS = (ValueError, OSError)
Scores = dict[str, float]


def scores_of(
    config: str,
    options: dict[str, Any],
    predict: Callable[[dict[str, Any]], Sequence[dict[str, Any]]],
    trains: bool = False,
) -> Scores | str:
    """Scores of the test split, or the sentence that refuses the data.

    Args:
        config: Config file.
        options: As of `--cfg-options`.
        predict: Batch of the loader -> what the metric takes.
        trains: Check and load the training data, too, as `tools/train.py` does.
    """
    logging.disable(logging.INFO)
    gc.freeze()  # MMEngine collects garbage at every data set, and would look at all of torch
    try:
        cfg, _ = load_config(config, options=options)
        init_default_scope(cfg.get("default_scope", "mmengine"))
        if trains:
            check_data(cfg, ("train", "val"))
            for _ in alone(cfg.train_dataloader, sampler="DefaultSampler"):
                pass
        check_data(cfg, ("test",))
        loader = alone(cfg.test_dataloader)
        evaluator = Evaluator(copy.deepcopy(cfg.test_evaluator))
        evaluator.dataset_meta = loader.dataset.metainfo
        with torch.no_grad():
            for batch in loader:
                evaluator.process(predict(batch), batch)
        return evaluator.evaluate(len(loader.dataset))
    except REFUSALS as error:
        return sentence(error)
    finally:
        logging.disable(logging.NOTSET)
        logger = MMLogger.get_current_instance()
        logger.setLevel(logger.level)  # MMEngine's loggers keep "is off" until a level is set


def some(rng: np.random.Generator, items: Iterable[Any]) -> Any:
    """One of the items."""
    items = list(items)
    return items[int(rng.integers(len(items)))]


def spoil(rng: np.random.Generator, file: Path) -> str:
    """Make a file unreadable in one of six ways; which."""
    data = file.read_bytes()
    how = some(rng, ["cut", "empty", "text", "zeros", "folder", "absent"])
    file.unlink()
    if how == "folder":
        file.mkdir()
    elif how != "absent":
        at = int(rng.integers(10, len(data) - 40))
        new = {"cut": data[:at], "empty": b"", "text": b"no picture", "zeros": bytes(400)}
        file.write_bytes(new[how])
    return how


def turn(file: Path, orientation: int) -> None:
    """The very same JPEG with an Exif entry."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    block, data = exif.tobytes(), file.read_bytes()
    length = (len(block) + 2).to_bytes(2, "big")
    file.write_bytes(data[:2] + b"\xff\xe1" + length + block + data[2:])


def alone(settings: Any, sampler: str | None = None) -> Any:
    """A loader without worker processes, over its data once."""
    settings = copy.deepcopy(settings)
    settings.num_workers = 0
    settings.pop("persistent_workers", None)
    if sampler is not None:
        settings.sampler = dict(type=sampler, shuffle=False)
    return Runner.build_dataloader(settings, seed=0)


def require_right_or_refused(
    found: Scores | str, right: Scores, folder: Path, defect: str, atol: float = 2e-3
) -> bool:
    """Fail unless the scores are the right ones, or one sentence names a file below the folder.

    Returns:
        Whether the data were refused.
    """
    if isinstance(found, str):
        assert "\n" not in found and "Traceback" not in found, f"{defect}: {found}"
        assert str(folder) in found, f"{defect}: names no file: {found}"
        return True
    assert found.keys() == right.keys(), f"{defect}: {found} instead of {right}"
    for name, value in right.items():
        np.testing.assert_allclose(found[name], value, atol=atol, err_msg=f"{defect}: {name}")
    return False


def require_verdict(
    seed: int,
    sound: Path,
    folder: Path,
    defects: Sequence[Callable[[np.random.Generator, Path], str]],
    harmless: Collection[Callable[..., str]],
    score: Callable[[Path], Scores | str],
    right: Scores,
    atol: float = 2e-3,
) -> None:
    """A copy of the sound folder with the defect of a seed is scored rightly or refused.

    Args:
        seed: Chooses the defect, and all that is random in it.
        sound: The folder.
        folder: Where the copy goes.
        defects: Each changes files of a folder, and says how.
        harmless: Those of them that are sound data in another dress: they must be scored.
        score: See `scores_of`.
        right: Scores of the sound folder.
        atol: How far scores may be apart.
    """
    shutil.copytree(sound, folder)
    defect = defects[seed % len(defects)]
    words = f"{defect.__name__}: {defect(np.random.default_rng(seed), folder)}"
    refused = require_right_or_refused(score(folder), right, folder, words, atol)
    assert not (refused and defect in harmless), words
