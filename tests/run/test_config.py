"""Configs: references, overrides, the protocol hash, and every file under configs/."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

from config_files import CONFIGS, REPO, named, own_data
from mmengine.config import Config

from pe_dense.data.config_datasets import leaf_datasets
from pe_dense.run.command_line import parse_options
from pe_dense.run.config import (
    READ_BY_CODE,
    encoder_facts,
    load_config,
    load_template,
    resolved,
    substitute,
)
from pe_dense.run.protocol import config_sha256, protocol_settings

MINI = REPO / "configs" / "detection" / "dino_pe_t16_mini.py"
BASES = sorted((REPO / "configs" / "_base_").rglob("*.py"))
OWN_DATA = REPO / "configs" / "detection" / "dino_custom.py"
TOY = """
encoder = "pe_spatial_t16_512"
weights = "random"
data_root = "data/toy"
max_epochs = 8
lr = 1e-3
num_workers = 2
model = dict(
    backbone=dict(encoder="$encoder", weights="$weights"),
    neck=dict(in_channels="$encoder.embed_dim"),
    mean="$encoder.mean_255",
)
custom_hooks = [dict(depth="$encoder.depth"), ("$lr", "prefix-$max_epochs")]
train_dataloader = dict(num_workers="$num_workers", path="$data_root/train")
param_scheduler = [dict(end="$max_epochs")]
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    return path


def written(folder: Path, text: str) -> Path:
    path = folder / "config.py"
    path.write_text(text)
    return path


# References


def test_substitute_keeps_types_and_does_not_touch_its_input() -> None:
    value = {"a": ["$n", ("$n", 1)], "b": "x/$root/$n.json", "c": None, "$n": 5}
    before = copy.deepcopy(value)
    found = substitute(value, {"n": 3, "root": "data"})
    assert found == {"a": [3, (3, 1)], "b": "x/data/3.json", "c": None, "$n": 5}
    assert type(found["a"][1]) is tuple
    assert value == before
    assert substitute("$list", {"list": [1, 2]}) == [1, 2]


def test_references_are_filled_in(toy: Path) -> None:
    cfg, template = load_config(toy)
    assert cfg.model.backbone.to_dict() == {"encoder": "pe_spatial_t16_512", "weights": "random"}
    assert cfg.model.neck.in_channels == 192
    assert cfg.model.mean == [127.5, 127.5, 127.5]
    assert cfg.custom_hooks[0].depth == 12 and tuple(cfg.custom_hooks[1]) == (1e-3, "prefix-8")
    assert cfg.train_dataloader.path == "data/toy/train" and cfg.param_scheduler[0].end == 8
    assert template.model.neck.in_channels == "$encoder.embed_dim"
    assert template.param_scheduler[0].end == "$max_epochs"


def test_overrides_act_before_references_are_filled_in(toy: Path) -> None:
    cfg, _ = load_config(toy, options={"max_epochs": 3, "data_root": "/d", "model.neck.new": 1})
    assert cfg.param_scheduler[0].end == 3 and cfg.custom_hooks[1][1] == "prefix-3"
    assert cfg.train_dataloader.path == "/d/train"
    assert cfg.model.neck.to_dict() == {"in_channels": 192, "new": 1}
    assert load_config(toy, options={"param_scheduler.0.end": 5})[0].param_scheduler[0].end == 5


def test_another_encoder_changes_what_depends_on_it(toy: Path) -> None:
    cfg, template = load_config(toy, encoder="pe_spatial_s16_512", weights="w.pt")
    assert cfg.model.backbone.to_dict() == {"encoder": "pe_spatial_s16_512", "weights": "w.pt"}
    assert cfg.model.neck.in_channels == 384
    assert template.encoder == "pe_spatial_s16_512"
    by_option, _ = load_config(toy, options={"encoder": "pe_spatial_s16_512"})
    assert by_option.model.neck.in_channels == 384
    deep, _ = load_config(toy, encoder="pe_lang_l14_448")
    assert deep.custom_hooks[0].depth == 23 and deep.model.neck.in_channels == 1024


def test_encoder_facts_hold_no_weights() -> None:
    facts = encoder_facts("pe_spatial_g14_448")  # 1.9 billion parameters
    assert facts["embed_dim"] == 1536 and facts["depth"] == 50 and facts["patch_size"] == 14
    assert facts["num_prefix_tokens"] == 0
    assert facts["mean_255"] == facts["std_255"] == [127.5] * 3
    assert encoder_facts("pe_spatial_t16_512", {"depth": 3})["depth"] == 3


def test_chains_of_references_are_followed(tmp_path: Path) -> None:
    path = written(tmp_path, 'a = "$b"\nb = "$c"\nc = 3\nmodel = dict(y="$a", z="$b")\n')
    assert load_config(path)[0].model.to_dict() == {"y": 3, "z": 3}


def test_a_circle_of_references_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, 'a = "$b"\nb = "$a"\nmodel = dict(y="$a")\n')
    with pytest.raises(ValueError, match=r"\$(a|b)"):
        load_config(path)


# Text of persons and data


def test_a_dollar_in_what_a_person_gives_means_nothing(toy: Path) -> None:
    cfg, template = load_config(
        toy,
        weights="/models/$HOME/$lr.pt",
        options={"data_root": "/data/$HOME/$max_epochs", "model.neck.names": ["US$cents", "$x"]},
    )
    assert cfg.weights == cfg.model.backbone.weights == "/models/$HOME/$lr.pt"
    assert cfg.train_dataloader.path == "/data/$HOME/$max_epochs/train"
    assert cfg.model.neck.names == ["US$cents", "$x"]
    assert type(cfg.data_root) is str and type(cfg.model.neck.names[0]) is str
    again = copy.deepcopy(template)
    assert resolved(again, toy).train_dataloader.path == "/data/$HOME/$max_epochs/train"


def test_an_option_that_is_a_name_of_the_config_refers_to_it(toy: Path) -> None:
    options = {"num_workers": "$max_epochs", "model.neck.width": "$encoder.embed_dim"}
    cfg, _ = load_config(toy, options=options)
    assert cfg.train_dataloader.num_workers == 8 and cfg.model.neck.width == 192
    with pytest.raises(ValueError, match=r"num_workers=\$max_epoch: the config has 2 there"):
        load_config(toy, options={"num_workers": "$max_epoch"})


def test_class_names_found_in_data_may_hold_a_dollar(tmp_path: Path, mini_root: Path) -> None:
    folder = tmp_path / "$max_iters"
    shutil.copytree(mini_root / "coco", folder)
    for file in (folder / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        content["categories"][0]["name"] = "US$cents"
        content["categories"][1]["name"] = "$lr"
        file.write_text(json.dumps(content))
    cfg, _ = load_config(OWN_DATA, options={"data_root": str(folder)})
    trained, _ = next(leaf_datasets(cfg.train_dataloader.dataset))
    assert cfg.classes[:2] == trained.metainfo.classes[:2]
    assert list(cfg.classes[:2]) == ["US$cents", "$lr"]
    assert cfg.test_evaluator.ann_file == f"{folder}/annotations/val.json"


# Names that are required, and names that nothing reads


def test_a_base_says_which_names_it_requires(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        'REQUIRED_one = ("lr", "model.head")\noptim_wrapper = dict(lr="$lr")\n'
    )
    (tmp_path / "two.py").write_text('REQUIRED_two = ("lr",)\nlog_level = "$level"\n')
    bases = '_base_ = ["one.py", "two.py"]\nlevel = "INFO"\n'
    cfg, template = load_config(written(tmp_path, bases + "lr = 1\nmodel = dict(head=2)\n"))
    assert cfg.optim_wrapper.lr == 1
    assert set(template) == {"optim_wrapper", "log_level", "level", "lr", "model"}
    path = written(tmp_path, bases + "lr = 1\nmodel = dict(heads=2)\n")
    with pytest.raises(ValueError, match=rf"{path} defines no 'model.head', .* base one.py"):
        load_config(path)


@pytest.mark.parametrize("text", ["max_epoch = 3", "max_epochs, max_epoch = 4, 3"])
def test_a_name_that_nothing_reads_is_refused(toy: Path, text: str) -> None:
    path = written(toy.parent, f"_base_ = 'toy.py'\n{text}\n")
    with pytest.raises(ValueError, match=r"defines 'max_epoch', .* \(near: max_epochs\)"):
        load_config(path)


@pytest.mark.parametrize(
    "text",
    [
        "side = 64\nmodel = dict(scale=side)",  # read by Python
        "side = 64\nmodel = dict(scale='$side')",
        "rate = 1\nmodel = dict(lr=_base_.lr, rate='$rate')",
        "val_cfg = dict(type='ValLoop')",  # read by the Runner
        "custom_imports = dict(imports=['json'])\nside = 64",  # other code may read it
        "import math\nside = math.sqrt(16)",
    ],
)
def test_a_name_that_something_reads_or_may_read_is_not(toy: Path, text: str) -> None:
    load_template(written(toy.parent, f"_base_ = ['toy.py']\n{text}\n"))


def test_the_table_of_names_that_code_reads_is_true() -> None:
    from mmengine.runner import Runner

    table = dict(READ_BY_CODE)
    in_runner = set(re.findall(r"cfg\.get\('(\w+)'", inspect.getsource(Runner.from_cfg)))
    assert len(in_runner) > 20 and in_runner <= set(table.pop("MMEngine's Config and Runner"))
    table.pop("the hash of a protocol")
    code = "".join(path.read_text() for path in (REPO / "pe_dense").rglob("*.py"))
    for name in set().union(*table.values()):
        _, _, rest = name.partition("_")  # names.get(f"{split}_images")
        read = rf'(cfg|template|names|plain)(\.|\[f?"|\.(get|pop)\(f?")({name}|{{split}}_{rest})\b'
        # names.get(key) for key in (...), which makes `options`; names of a plan
        listed = rf'(for key in|names =) \([^)]*"{name}"|options\["{name}"\]|\)\.get\("{name}"\)'
        assert re.search(rf'{read}|"{name}" (not )?in (cfg|plain)|{listed}', code), name


# `require_schedule` tells people to set them, so that configs must have them.
NAMED_IN_ERRORS = {"checkpoint_interval", "probe_interval"}


@pytest.mark.parametrize("path", BASES, ids=named)
def test_bases_require_the_names_that_they_refer_to(path: Path) -> None:
    """Exactly those that they do not define themselves, or more that code reads."""
    content = Config.fromfile(path).to_dict()
    required = set(content.pop(f"REQUIRED_{path.stem}", ()))
    assert not [key for key in content if key.startswith("REQUIRED")]
    references = set(re.findall(r"\$([A-Za-z_]\w*)\b(?!\.)", repr(content)))
    if "$encoder." in repr(content):
        references.add("encoder")
    missing = references - set(content) - {"data"}
    assert missing <= required
    code = set().union(*READ_BY_CODE.values()) | NAMED_IN_ERRORS
    assert {name for name in required - missing if "." not in name} <= code - set(content)


# Errors


def test_unknown_reference_names_itself_and_the_known_ones(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'max_epochs = 3\nparam_scheduler = [dict(end="$max_epochs"), dict(end="$max_epoch")]\n',
    )
    with pytest.raises(ValueError, match=r"refers to \$max_epoch,.*it has max_epochs"):
        load_config(path)


def test_bits_of_images_go_to_all_that_decodes_them(toy: Path) -> None:
    plain, template = load_config(MINI)
    assert '"bits"' not in json.dumps(plain.to_dict())
    deep, with_bits = load_config(MINI, options={"image_bits": 12})
    loaders = [deep[f"{split}_dataloader"].dataset.pipeline[0] for split in ("train", "test")]
    assert [loader.to_dict() for loader in loaders] == [{"type": "LoadImage", "bits": 12}] * 2
    assert config_sha256(protocol_settings(template)) != config_sha256(protocol_settings(with_bits))
    videos, _ = load_config("configs/tracking/mini_v1.py", options={"image_bits": 12})
    assert videos.test_dataloader.dataset.bits == 12
    probed, _ = load_config(
        "configs/alignment/spatial_align_t16_mini.py", options={"image_bits": 12}
    )
    assert json.dumps(probed.custom_hooks).count('"bits": 12') == 2
    with pytest.raises(ValueError, match=r"image_bits=12 does nothing in .*toy\.py"):
        load_config(toy, options={"image_bits": 12})


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("max_epoch", r"did you mean max_epochs\?"),
        ("modle.neck.in_channels", "did you mean model[,?]"),
        ("lr.x", "max_epochs, model"),
        ("param_scheduler.3.end", "max_epochs, model"),
    ],
)
def test_unknown_option_names_what_is_near_or_all(toy: Path, key: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"--cfg-options {key}: .*{said}"):
        load_config(toy, options={key: 1})


def test_unknown_encoder_lists_near_names(toy: Path) -> None:
    with pytest.raises(ValueError, match="unknown encoder 'pe_spatial_t16'.*pe_spatial_t16_512"):
        load_config(toy, encoder="pe_spatial_t16")


def test_encoder_of_a_config_without_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no free 'encoder'"):
        load_config(written(tmp_path, "log_level = 1\n"), encoder="pe_spatial_t16_512")


@pytest.mark.parametrize(
    "text",
    [
        "a = dict(",
        "a = b",
        "_base_ = './absent.py'",
        "a = 1 / 0",
        "custom_imports = dict(imports=['no_such_module'], allow_failed_imports=False)",
        "raise RuntimeError('boom')",
    ],
)
def test_broken_config_is_named(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text + "\n")
    with pytest.raises(ValueError, match=f"config {path} cannot be read"):
        load_config(path)


@pytest.mark.parametrize("name", ["absent.py", "."])
def test_missing_config(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load_config(tmp_path / name)


# Protocol


def protocol_hash(path: Path, **arguments: object) -> str:
    return config_sha256(protocol_settings(load_template(path, **arguments)))


@pytest.mark.parametrize(
    "arguments",
    [
        dict(encoder="pe_core_s16_384"),
        dict(weights="released"),
        dict(options={"data_root": "/elsewhere"}),
        dict(options={"train_dataloader.num_workers": 0, "val_dataloader.num_workers": 7}),
        dict(options={"randomness.seed": 5, "log_level": "ERROR"}),
        dict(options={"default_hooks.logger.interval": 1}),
    ],
    ids=str,
)
def test_protocol_does_not_depend_on_encoder_machine_or_seed(arguments: dict) -> None:
    assert protocol_hash(MINI, **arguments) == protocol_hash(MINI)


def test_how_often_a_run_logs_and_writes_is_no_part_of_a_protocol() -> None:
    # A run that is resumed may write more often than before it was stopped.
    path = REPO / "configs/alignment/spatial_align_t16_mini.py"
    for options in ({"checkpoint_interval": 3}, {"log_interval": 1}):
        assert protocol_hash(path, options=options) == protocol_hash(path)
    assert protocol_hash(path, options={"total_steps": 100}) != protocol_hash(path)


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 7},
        {"lr": 1e-3},
        {"batch_size": 3},
        {"image_scale": (128, 128)},
        {"num_queries": 50},
        {"optim_wrapper.optimizer.weight_decay": 0.1},
        {"model.neck.scales": (1, 0.5, 2)},
    ],
    ids=str,
)
def test_protocol_depends_on_what_changes_scores(options: dict) -> None:
    assert protocol_hash(MINI, options=options) != protocol_hash(MINI)


def test_protocols_of_two_configs_differ() -> None:
    # Where one recipe is run on two data sets, only their folders may differ, and where it trains
    # several students, only they and what a process holds of the total batch.
    templates = [load_template(path) for path in CONFIGS]
    hashes = {
        (
            config_sha256(protocol_settings(t)),
            t.protocol.dataset,
            t.encoder if "total_batch" in t else None,
        )
        for t in templates
    }
    assert len(hashes) == len(CONFIGS)


# The files under configs/


def test_there_are_configs() -> None:
    assert MINI in CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=named)
def test_config_loads_and_says_what_it_is(path: Path, mini_root: Path) -> None:
    text = path.read_text(encoding="utf-8")
    header = ast.get_docstring(ast.parse(text))
    assert header and "Command:" in header and "Data:" in header
    assert named(path) in header, "the command names this very file"
    assert text.isascii()
    cfg, _ = load_config(path, options=own_data(path, mini_root))
    assert "$" not in cfg.pretty_text
    assert {"id", "version", "task", "dataset", "split", "metric"} <= set(cfg.protocol)
    assert cfg.protocol.higher_is_better in (True, False)


def trains(path: Path) -> bool:
    template = load_template(path)
    return "train_cfg" in template and not template.get("evaluation_only")


@pytest.mark.parametrize("path", [path for path in CONFIGS if trains(path)], ids=named)
def test_the_length_moves_the_whole_schedule(path: Path, mini_root: Path) -> None:
    name = next((n for n in ("max_iters", "total_steps") if n in load_template(path)), None)
    if name is not None:
        cfg, _ = load_config(path, options={name: 3, **own_data(path, mini_root)})
        assert cfg.train_cfg.max_iters == 3
        later = [s for s in cfg.param_scheduler if s.type != "LinearLR"]
        assert max(s.get("end", s.get("total_steps")) for s in later) == 3
        return
    cfg, _ = load_config(path, options={"max_epochs": 2, **own_data(path, mini_root)})
    assert cfg.train_cfg.max_epochs == 2
    assert [s.end for s in cfg.param_scheduler if s.get("by_epoch")] == [2]


def test_names_that_depend_on_facts_through_others(tmp_path: Path) -> None:
    config = tmp_path / "c.py"
    config.write_text(
        "encoder, weights = 'pe_spatial_t16_512', 'random'\n"
        "side = '$encoder.side_of_32_tokens'\ncustom_hooks = [dict(scale='$side')]\n"
        "model = dict(backbone=dict(encoder_options=dict(depth='$depth')))\ndepth = 2\n"
    )
    cfg, _ = load_config(config)
    assert cfg.custom_hooks[0].scale == 512 and cfg.model.backbone.encoder_options.depth == 2


def test_an_option_that_holds_a_name_and_more_is_told_to_be_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = REPO / "configs/segmentation/linear_pe_t16_mini.py"
    for root, told in (("a/$max_epochs", True), ("a/$HOME", False), ("plain", False)):
        cfg, _ = load_config(config, options={"data_root": root})
        assert cfg.data_root == root
        out = capsys.readouterr()
        assert ("$max_epochs is taken as text" in out.out + out.err) is told


def test_a_list_of_bare_words_is_one_where_the_config_has_a_list() -> None:
    options = parse_options(["classes=[cat, big dog]", "num_classes=2"])
    cfg, _ = load_config("configs/segmentation/linear_pe_t16_mini.py", options=options)
    assert cfg.classes == ["cat", "big dog"]
    options = parse_options(["data_root=[a,b]"])
    cfg, _ = load_config("configs/segmentation/linear_pe_t16_mini.py", options=options)
    assert cfg.data_root == "[a,b]"
