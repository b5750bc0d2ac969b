"""Dense prediction with Perception Encoder: backbones, heads, protocols and results.

Importing it also answers to module names of version 0.1 that stand in people's configs; each use
warns, and version 0.3 will not know them any more. Scripts find the functions of those modules
under `pe_dense.run` (CHANGELOG).

It also answers for mmcv's compiled operators, so that mmcv, mmdet and mmseg can be imported where
they are missing: import pe_dense first (`pe_dense.openmmlab.mmcv_operators`).
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings

__version__ = "0.2.0"

# Module of version 0.1 -> where its parts are now.
MOVED = {
    "pe_dense.benchmark": "pe_dense.suites",
    "pe_dense.command_line": "pe_dense.run.command_line",
    "pe_dense.data.coco_folder": "pe_dense.data.checks.coco_folder",
    "pe_dense.data.image_loading": "pe_dense.openmmlab.image_loading",
    "pe_dense.data.mini_captioned_images": "pe_dense.alignment.mini_captioned_images",
    "pe_dense.encoders.backbone": "pe_dense.openmmlab.backbone",
    "pe_dense.evaluation": "pe_dense.run.evaluation",
    "pe_dense.experiment": "pe_dense.run.config",
    "pe_dense.layer_decay": "pe_dense.openmmlab.layer_decay",
    "pe_dense.necks": "pe_dense.openmmlab.necks",
    "pe_dense.runtime": "pe_dense.run.resume",
    "pe_dense.sharding": "pe_dense.run.sharding",
    "pe_dense.training": "pe_dense.run.training",
    "pe_dense.types": "pe_dense.encoders.contract",
}


def _new_name(name):
    """Where a module is now, or None if it did not move; parts of a package moved with it."""
    for old, new in MOVED.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return None


def load(
    checkpoint,
    config=None,
    device=None,
    amp=False,
    options=None,
    *,
    prompts=None,
    weights=None,
    readout=None,
    layer=None,
    threshold=None,
):
    """A model that is called with pictures: a trained one, or one that labels pixels by names.

        model = load("work_dirs/street")
        model = load("pe_core_b16_224", prompts=["road", "car", "sky"])

    Args:
        checkpoint: Checkpoint file, or a work dir whose newest one is meant. With prompts: the name
            of an encoder that has a text tower.
        config: Config file, for checkpoints that do not hold their own; with prompts one of
            segmentation by names.
        device: 'cpu', 'cuda', 'cuda:1' ...; by default the GPU if there is one.
        amp: Run the encoder in bfloat16.
        options: Overrides of config values, by name.
        prompts: Texts, each of which becomes a class; nothing is trained.
        weights: With prompts: 'released', 'random', a file or 'hf://repo[@revision][:file]'.
        readout: With prompts: how a patch is read, see `pe_dense.text_dense.readouts`.
        layer: With prompts: after which block, from 0; -1 is the last.
        threshold: With prompts: pixels in which none has this probability are background.

    Returns:
        A `pe_dense.predict.model.Model`: a path, an array (H, W, 3) of RGB uint8, a PIL image, or
        a list of them gives `Detections`, a `LabelMap` or a `DepthMap`
        (`pe_dense.predict.results`), which draw and save themselves.

    Raises:
        ValueError: If the checkpoint cannot be read or is of another task, the encoder has no text
            tower, or the prompts make no classes.
    """
    # Not imported above: torch and OpenMMLab take seconds.
    return importlib.import_module("pe_dense.predict.model").load(
        checkpoint, config, device, amp, options, prompts, weights, readout, layer, threshold
    )


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the new module under the old name: one module object, so nothing registers twice."""

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if _new_name(name) else None

    def exec_module(self, module):
        new = _new_name(module.__name__)
        warnings.warn(f"{module.__name__} is now {new}", FutureWarning, stacklevel=3)
        sys.modules[module.__name__] = importlib.import_module(new)


class _MmcvOperators(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a module that finds each operator, compiled or not, for mmcv's compiled one."""

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "mmcv._ext" else None

    def create_module(self, spec):
        return importlib.import_module("pe_dense.openmmlab.mmcv_operators").MODULE

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, _MmcvOperators())
if "mmcv._ext" in sys.modules:  # mmcv was imported first
    importlib.import_module("pe_dense.openmmlab.mmcv_operators").take_over()
sys.meta_path.insert(0, _MovedModules())  # before a folder that an update left behind
