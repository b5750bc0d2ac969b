"""A config that a checkpoint holds is data: what it names of its own is refused, and nothing runs.

Every forgery is a whole checkpoint with the hash that fits it, so that only the rules are left.
"""

from __future__ import annotations

import builtins
import copy
import functools
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmseg")

import torch
from mmengine.config import Config

from pe_dense.run.config import load_config, load_template
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.recipe import MAX_DEPTH, Recipe
from pe_dense.run.request import RunRequest
from pe_dense.run.saved_run import open_saved
from pe_dense.run.stored_rules import _dicts, of_project, require_harmless, require_trusted
from pe_dense.run.trained_run import trained_model

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs/segmentation/linear_pe_t16_mini.py")
TOWER = {"embed_dim": 16, "num_heads": 2, "mlp_hidden": 32, "image_size": 64}
TYPED = {"layers": [1], "model.backbone.encoder_options": TOWER}


@pytest.fixture(scope="module")
def facts(tmp_path_factory) -> dict[str, Any]:
    """Facts of a run that never was, with the config that it would have had."""
    request = RunRequest(CONFIG, options=TYPED)
    loaded = request.load_parts()
    return {
        "encoder": "pe_spatial_t16_512", "weights": None, "seed": 0, "amp": False, "world_size": 1,
        "start_from": None, "train_command": "python tools/train.py own.py", "train_seconds": 1.0,
        "commit": "0" * 40, "dirty": False, "total_batch": 4,
        "protocol_sha256": protocol_sha256(loaded.template, False, 4),
        "recipe": request.recipe(loaded).to_meta(),
    }  # fmt: skip


@pytest.fixture(scope="module")
def state(facts) -> dict[str, torch.Tensor]:
    cfg, _ = load_config(CONFIG, weights="random", options=TYPED)
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope("mmseg")
    return MODELS.build(cfg.model).state_dict()


def put(tree: Any, dotted: str, value: Any) -> None:
    *inner, last = dotted.split(".")
    for part in inner:
        tree = tree[int(part)] if isinstance(tree, list) else tree.setdefault(part, {})
    tree[last] = value


def forged(facts, state, file: Path, changes: dict[str, Any], rehash: bool = True) -> Path:
    """A checkpoint whose stored config has other values in these places."""
    own = copy.deepcopy(facts)
    for place, value in changes.items():
        put(own, place, value)
    if rehash:
        template = Recipe(**copy.deepcopy(own["recipe"])).template(own["encoder"])
        own["protocol_sha256"] = protocol_sha256(template, False, 4)
    torch.save({"state_dict": state, "meta": {"pe_dense": own, "epoch": 8}}, file)
    return file


def test_the_forger_s_own_tool_makes_a_checkpoint_that_opens(facts, state, tmp_path):
    run = open_saved(forged(facts, state, tmp_path / "epoch_8.pth", {}))
    assert sum(p.numel() for p in trained_model(run).parameters()) > 0
    changed = {"recipe.written.image_scale": (32, 32)}
    run = open_saved(forged(facts, state, tmp_path / "epoch_8.pth", changed))
    assert run.cfg.image_scale == (32, 32)
    with pytest.raises(ValueError, match="another config than it was trained with"):
        open_saved(forged(facts, state, tmp_path / "epoch_8.pth", changed, rehash=False))


WRITTEN = "recipe.written."
MODEL = WRITTEN + "model."
HOSTILE = {
    "an import": ({WRITTEN + "custom_imports": {"imports": ["evil_module"]}}, "evil_module"),
    "an import as text": ({WRITTEN + "custom_imports": {"imports": "evil_module"}}, "evil_module"),
    "a system module": ({WRITTEN + "custom_imports": {"imports": ["antigravity"]}}, "antigravity"),
    "imports that are no dict": ({WRITTEN + "custom_imports": ["os"]}, "custom_imports"),
    "a function for the data": ({WRITTEN + "data_facts": "evil_module:facts"}, "data_facts"),
    "a function of ours": ({WRITTEN + "data_facts": "pe_dense.files:atomic_write_text"}, "facts"),
    "a check of the data": ({WRITTEN + "data_check": "os:system"}, "data_check"),
    "a scope": ({WRITTEN + "default_scope": "evil_module"}, "default_scope"),
    "a scope of a part": ({MODEL + "decode_head._scope_": "evil_module"}, "head._scope_='evil_mod"),
    "a scope of the data": (
        {WRITTEN + "test_dataloader.dataset.pipeline": [{"type": "LoadImage", "_scope_": "this"}]},
        r"pipeline\[0\]._scope_='this'",
    ),
    "a scope that was typed": (
        {"recipe.options": {**TYPED, "model.backbone._scope_": "evil_module"}}, "backbone._scope_",
    ),
    "an import path as type": ({MODEL + "type": "evil_module.Model"}, "evil_module.Model"),
    "a type that nobody uses": ({MODEL + "decode_head.type": "subprocess.Popen"}, "Popen"),
    "a deep type": ({MODEL + "decode_head.loss_decode": [{"type": "os.system"}]}, "os.system"),
    "a type of the pipeline": (
        {WRITTEN + "test_dataloader.dataset.pipeline": [{"type": "evil_module.Load"}]}, "evil_mod",
    ),
    "a type of the library that loads": ({MODEL + "backbone.type": "TIMMBackbone"}, "TIMMBackbone"),
    "a type that is a reference": (
        {WRITTEN + "kind": "evil_module.Head", MODEL + "decode_head.type": "$kind"}, "evil_module",
    ),
    "weights": ({MODEL + "backbone.weights": "hf://evil/model"}, "hf://evil"),
    "weights of a file": ({MODEL + "backbone.weights": "/etc/passwd"}, "passwd"),
    "pretrained parameters": (
        {MODEL + "init_cfg": {"type": "Pretrained", "checkpoint": "http://evil/x.pth"}},
        "init_cfg",
    ),
    "pretrained": ({MODEL + "pretrained": "torchvision://resnet50"}, "pretrained"),
    "a file in the model": ({MODEL + "decode_head.names": "/home/me/secret.txt"}, "secret"),
    "a home in the model": ({MODEL + "decode_head.names": "~/secret"}, "secret"),
    "a network file system": (
        {WRITTEN + "test_dataloader.dataset.backend_args": {"backend": "http"}}, "backend_args",
    ),
    "an address for the data": (
        {WRITTEN + "test_dataloader.dataset.data_root": "http://evil/data"}, "http://evil",
    ),
    "a config file that is run": (
        {WRITTEN + "evaluation_only": True, WRITTEN + "trained_with": "evil_module.py"},
        "evaluation_only",
    ),
    "another encoder's file": ({"encoder": "timm:hf-hub:evil/model"}, "hf-hub"),
    "a model of timm": (
        {"recipe.options": {**TYPED, "model.backbone.encoder_options.model_name": "hf-hub:a/b"}},
        "model_name",
    ),
    "names that explode": (
        {WRITTEN + f"n{i}": "x" * 9 if i == 0 else f"$n{i - 1}$n{i - 1}" for i in range(40)},
        "grow",
    ),
    "nesting": (
        {WRITTEN + "protocol.deep": functools.reduce(lambda x, _: [x], range(MAX_DEPTH + 2), 0)},
        "inside",
    ),
    "a tensor": ({WRITTEN + "lr": torch.ones(1)}, "a Tensor at written.lr"),
    "another form": ({"recipe": {"config": "a.py"}}, "unknown form"),
    "no dict": ({"recipe": ["a"]}, "unknown form|not written"),
    "a later form": ({"recipe.more": 1}, "unknown form"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_config_is_refused_and_runs_nothing(name, facts, state, tmp_path, monkeypatch):
    changes, words = HOSTILE[name]
    ran = tmp_path / "ran"
    (tmp_path / "evil_module.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    never = ("a tensor", "nesting", "names that explode", "another form", "no dict", "a later form")
    file = forged(facts, state, tmp_path / "epoch_8.pth", changes, rehash=name not in never)
    watched = Watch(monkeypatch, file)
    for with_data in (False, True):
        with pytest.raises(ValueError, match=words) as caught:
            open_saved(file, {"data_root": str(tmp_path)}, with_data=with_data)
        assert "\n" not in str(caught.value) and "epoch_8.pth" in str(caught.value)
    assert not ran.exists() and "evil_module" not in sys.modules
    assert watched.found == []


MALFORMED = {
    "a name that MMEngine keeps for itself": {WRITTEN + "filename": 1},
    "a backbone that is a list": {MODEL + "backbone": [1], "recipe.options": {"tune": "lora"}},
    "imports that are a number": {WRITTEN + "custom_imports": {"imports": 5}},
    "a module that is not there": {WRITTEN + "custom_imports": {"imports": ["pe_dense.nope.x"]}},
    "an argument that nobody takes": {MODEL + "decode_head.foo": 3},
    "a mean that is text": {MODEL + "data_preprocessor.mean": "abc"},
    "blocks that are text": {MODEL + "backbone.out_indices": ["a", {}]},
    "an option whose name is a number": {"recipe.options": {5: 6}},
    "accepted faults that are dicts": {"recipe.accept": [{"a": 1}]},
    "a batch that is text": {"total_batch": "x"},
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_config_that_is_none_is_refused_in_one_sentence(name, facts, state, tmp_path):
    try:
        file = forged(facts, state, tmp_path / "epoch_8.pth", MALFORMED[name])
    except (KeyError, AttributeError, TypeError):  # the forger stumbles over it, too
        file = forged(facts, state, tmp_path / "epoch_8.pth", MALFORMED[name], rehash=False)
    with pytest.raises(ValueError, match=r"checkpoint \S*epoch_8.pth holds a config") as caught:
        trained_model(open_saved(file))
    assert "\n" not in str(caught.value)


def test_own_parts_are_used_where_the_user_names_them(facts, state, tmp_path):
    changes = {WRITTEN + "model.decode_head.loss_decode": {"type": "LovaszLoss", "per_image": True}}
    file = forged(facts, state, tmp_path / "epoch_8.pth", changes)
    with pytest.raises(ValueError, match="LovaszLoss.*name the CONFIG that it was trained with"):
        open_saved(file)
    typed = {"model.decode_head.loss_decode": {"type": "LovaszLoss", "per_image": False}}
    run = open_saved(file, typed)
    assert run.cfg.model.decode_head.loss_decode.per_image is False


def test_loggers_are_those_that_are_typed_and_not_the_checkpoint_s(facts, state, tmp_path):
    sends = [{"type": "MLflowVisBackend", "tracking_uri": "http://evil"}]
    changes = {WRITTEN + "vis_backends": sends, WRITTEN + "custom_hooks": [{"type": "evil.Hook"}]}
    file = forged(facts, state, tmp_path / "epoch_8.pth", changes)
    cfg = open_saved(file).cfg
    assert "vis_backends" not in cfg and cfg.custom_hooks == [] and "default_hooks" not in cfg
    assert open_saved(file, {"vis_backends": ["tensorboard"]}).cfg.vis_backends == ["tensorboard"]
    with pytest.raises(ValueError, match=r"default_hooks.logger.interval does nothing"):
        open_saved(file, {"default_hooks.logger.interval": 3})


def test_all_configs_of_the_project_may_be_stored():
    """What they name is found in their text, and nothing in them reads, writes or fetches."""
    trusted = of_project()
    files = sorted((ROOT / "configs").rglob("*.py"))
    files = [f for f in files if f.parent.name not in ("_base_", "datasets", "suites")]
    for file in files[::10]:
        template = load_template(file, weights="random")
        if not (template.get("evaluation_only") or template.get("training_free")):
            require_trusted(template, file, trusted)
        named = {node["type"] for _, node in _dicts(template) if "type" in node}
        unknown = {name for name in named if not name.startswith("$")} - trusted.types
        assert not unknown, file
    assert len(files) > 80 and "mmdet.models" in trusted.modules


class Watch:
    """Notes what is written, fetched or started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        self.found: list[str] = []
        own_open = builtins.open

        def watched_open(name: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
            if set(mode) & set("wax+"):
                self.found.append(f"write {name}")
            return own_open(name, mode, *args, **named)

        monkeypatch.setattr(builtins, "open", watched_open)
        for module, call in ((socket.socket, "connect"), (subprocess, "Popen")):
            monkeypatch.setattr(
                module, call, lambda *args, **named: self.found.append(str(args)), raising=False
            )


@pytest.mark.parametrize("folder", ["work_dirs/features", None])
def test_a_model_may_keep_features_where_runs_write(folder: str | None) -> None:
    cfg = Config(dict(model=dict(type="GlobalProbe", results_dir=folder)))
    require_harmless(cfg, "a.pth", of_project(), with_data=False)


@pytest.mark.parametrize("folder", ["/etc", "../work_dirs", "work_dirs/../x", "~/x", ["work_dirs"]])
def test_and_nowhere_else(folder: object) -> None:
    cfg = Config(dict(model=dict(type="GlobalProbe", results_dir=folder)))
    with pytest.raises(ValueError, match="a place to write to"):
        require_harmless(cfg, "a.pth", of_project(), with_data=False)
