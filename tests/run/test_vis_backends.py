"""TensorBoard and Weights & Biases: an option, no setting of the protocol, or one sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip("mmengine")

from mmengine.config import Config
from mmengine.visualization import Visualizer

from pe_dense.run import vis_backends
from pe_dense.run.command_line import parse_options
from pe_dense.run.config import load_config
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.vis_backends import use_vis_backends

CONFIG = Path(__file__).resolve().parents[2] / "configs/alignment/spatial_align_t16_mini.py"
LOCAL, BOARD, WANDB = (dict(type=f"{name}VisBackend") for name in ("Local", "Tensorboard", "Wandb"))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: object()))
    monkeypatch.setattr(vis_backends, "importlib", found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tensorboard", [LOCAL, BOARD]),
        ("wandb", [LOCAL, WANDB]),
        ("[tensorboard,wandb]", [LOCAL, BOARD, WANDB]),
        ("['local','wandb']", [LOCAL, WANDB]),
        ("[{'type':'TensorboardVisBackend'}]", [LOCAL, BOARD]),
        ("{'type':'TensorboardVisBackend'}", [LOCAL, BOARD]),
        (
            "[{'type':'WandbVisBackend','init_kwargs':{'project':'pe'}},'tensorboard']",
            [LOCAL, {**WANDB, "init_kwargs": {"project": "pe"}}, BOARD],
        ),
    ],
)
def test_the_option_reaches_the_visualizer_and_not_the_hash(text, expected, installed) -> None:
    plain = load_config(CONFIG)[1]
    cfg, template = load_config(CONFIG, options=parse_options([f"vis_backends={text}"]))
    assert protocol_sha256(template) == protocol_sha256(plain)
    use_vis_backends(cfg)
    assert cfg.visualizer.to_dict() == {"type": "Visualizer", "vis_backends": expected}
    assert "vis_backends" not in cfg


def test_mmengines_own_setting_is_taken_and_hashed_as_little(installed) -> None:
    option = "visualizer={'type':'Visualizer','vis_backends':[{'type':'TensorboardVisBackend'}]}"
    cfg, template = load_config(CONFIG, options=parse_options([option]))
    assert protocol_sha256(template) == protocol_sha256(load_config(CONFIG)[1])
    use_vis_backends(cfg)
    assert cfg.visualizer.vis_backends == [LOCAL, BOARD]


def test_without_the_option_all_stays_as_it_was() -> None:
    cfg = Config(dict(model={}))
    use_vis_backends(cfg)
    assert "visualizer" not in cfg


@pytest.mark.parametrize(
    "asked",
    ["nothing", "", [dict(type="NoBackend")], [3], {}, [["wandb"]], [dict(type=["a"])], [None]],
    ids=str,
)
def test_unknown_backends_are_refused(asked) -> None:
    if asked == "":
        cfg = Config(dict(vis_backends=asked))
        use_vis_backends(cfg)  # an empty list has the log alone
        assert cfg.visualizer.vis_backends == [LOCAL]
        return
    with pytest.raises(ValueError, match="is none of local, tensorboard, wandb"):
        use_vis_backends(Config(dict(vis_backends=asked)))


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_not_there_is_named_with_its_command(name, monkeypatch) -> None:
    found = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    monkeypatch.setattr(vis_backends, "importlib", found)
    with pytest.raises(ValueError, match=f"not installed; get it with: pip install .*{name}"):
        use_vis_backends(Config(dict(vis_backends=name)))


def test_numbers_arrive(installed, monkeypatch, tmp_path: Path) -> None:
    """At a stand-in for wandb, through MMEngine's visualizer."""
    logged = []
    wandb = ModuleType("wandb")
    wandb.init = lambda **options: logged.append(options)
    wandb.log = lambda numbers, **options: logged.append(numbers)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    cfg = Config(dict(vis_backends=[{**WANDB, "init_kwargs": {"project": "pe"}}]))
    use_vis_backends(cfg)
    settings = cfg.visualizer.to_dict()
    settings.pop("type")
    visualizer = Visualizer(name="numbers arrive", save_dir=str(tmp_path), **settings)
    visualizer.add_scalars({"speed/images_per_second": 3.5}, step=2)
    assert logged[0]["project"] == "pe" and logged[1]["speed/images_per_second"] == 3.5


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Neptune", {"init_kwargs": {"project": "a/b", "api_token": "s3cret"}}),
        ("Wandb", {"init_kwargs": {"settings": {"apiKey": "s3cret"}}}),
        ("MLflow", {"tracking_uri": "https://me:s3cret@mlflow.example"}),
        ("MLflow", {"tracked": [{"password": "s3cret"}]}),
    ],
)
@pytest.mark.parametrize("where", ["vis_backends", "visualizer"])
def test_no_secret_gets_into_commands_that_records_repeat(
    kind: str, settings: dict, where: str, installed
) -> None:
    backends = [{"type": f"{kind}VisBackend", **settings}]
    cfg = {"vis_backends": backends, "visualizer": dict(type="Visualizer", vis_backends=backends)}
    with pytest.raises(ValueError, match="holds a secret.* in records; take it out") as refused:
        use_vis_backends(Config({where: cfg[where]}))
    assert "s3cret" not in str(refused.value)


def test_settings_that_only_sound_so_are_taken(installed) -> None:
    own = {"type": "WandbVisBackend", "init_kwargs": {"project": "tokens", "key_metric": "a@b"}}
    use_vis_backends(cfg := Config(dict(vis_backends=[own])))
    assert cfg.visualizer.vis_backends[1] == own


@pytest.mark.parametrize("asked", [[1], "text", 5])
def test_a_visualizer_that_is_none_is_refused(asked) -> None:
    with pytest.raises(ValueError, match="write --cfg-options vis_backends=tensorboard"):
        use_vis_backends(Config(dict(visualizer=asked)))
