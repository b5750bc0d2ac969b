"""What a person asks of a run at the command line; everything else stands in the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.run.config import facts_of_data, overridden, read_config, resolved
from pe_dense.run.config_files import find_config
from pe_dense.run.protocol_facts import stated_protocol
from pe_dense.run.recipe import Recipe, plain, shown_name, shown_path, with_accepted
from pe_dense.run.task import TASKS

NEEDED = ("model", "encoder", "weights", "randomness", "env_cfg", "custom_hooks")


@dataclass(frozen=True)
class Loaded:
    """A config with what was asked for.

    Attributes:
        cfg: Resolved, with the seed that was asked for.
        template: With references in place, as it is hashed.
        written: As its file has it.
        data: What was found in the data.
    """

    cfg: Config
    template: Config
    written: Config
    data: Mapping[str, Any]


@dataclass(frozen=True)
class RunRequest:
    """One run as it was asked for, in training and in evaluation.

    Attributes:
        config: Config file.
        encoder: Replaces the config's encoder.
        weights: Replaces the config's encoder weights.
        options: `--cfg-options`: overrides of config values.
        work_dir: Where checkpoints and logs go; None leaves the choice to the run.
        launcher: 'none', 'pytorch' or 'slurm'.
        seed: Replaces the config's seed.
        amp: Run the encoder in bfloat16.
        speed: Options of `speed.OPTIONS` that are on.
        argv: The command line, for the record.
        accept: Names of rules of sound data that the data may break.
    """

    config: str
    encoder: str | None = None
    weights: str | None = None
    options: Mapping[str, Any] | None = None
    work_dir: Path | None = None
    launcher: str = "none"
    seed: int | None = None
    amp: bool = False
    argv: Sequence[str] = ("tools/train.py",)
    accept: Sequence[str] = ()
    speed: Sequence[str] = ()

    def load(self) -> tuple[Config, Config]:
        """The resolved config with the seed that was asked for, and the config as it is hashed.

        Raises:
            ValueError: As `load_config`, or if the config is none of a run.
        """
        loaded = self.load_parts()
        return loaded.cfg, loaded.template

    def load_parts(self) -> Loaded:
        """The same with what it was made from; raises as `load`."""
        written = read_config(self.config)
        template = overridden(written, self.config, self.encoder, self.weights, self.options)
        data = facts_of_data(template, self.config)
        cfg = resolved(template, self.config, data)
        for config in (cfg, template):  # where it is hashed and where it is read
            with_accepted(config, self.accept)
        for name in NEEDED:
            if name not in cfg:
                raise ValueError(
                    f"config {self.config} has no {name!r}, which every run needs; start from one "
                    "of configs/"
                )
        stated_protocol(cfg, self.config)
        if self.seed is not None:
            if not 0 <= self.seed < 2**32:
                raise ValueError(f"--seed {self.seed} must be 0 to 2**32 - 1")
            cfg.randomness.seed = self.seed
        return Loaded(cfg, template, written, data)

    def recipe(self, loaded: Loaded) -> Recipe:
        """What a checkpoint keeps of this request."""
        options = self.options or {}
        return Recipe(
            config=shown_name(self.config),
            written=plain(loaded.written.to_dict()),
            options=plain(options),
            texts=dict(getattr(options, "texts", {})),
            accept=list(self.accept),
            data=plain(loaded.data),
            folder=shown_path(Path.cwd()),
        )

    def default_work_dir(self) -> Path:
        """work_dirs/<config>[-<encoder>][-<weights>][-seed<n>]: variants of a recipe stay apart.

        Where several tasks have a config of one name, the first of `TASKS` has the plain name, and
        the others have theirs in front.

        Example:
            >>> RunRequest("configs/a.py", encoder="timm:vit", seed=1).default_work_dir().as_posix()
            'work_dirs/a-timm+vit-seed1'
            >>> RunRequest("configs/depth/linear_custom.py").default_work_dir().as_posix()
            'work_dirs/depth_linear_custom'
        """
        name = _work_name(find_config(self.config))
        for part in (self.encoder, Path(self.weights).name if self.weights else None):
            if part is not None:
                name += "-" + part.replace(":", "+").replace("/", "=")
        if self.seed is not None:
            name += f"-seed{self.seed}"
        return Path("work_dirs") / name


def _work_name(config: Path) -> str:
    """The stem of a config, with its task where a task before it has a config of that name."""
    folder = config.resolve().parent
    task = folder.name
    before = TASKS[: TASKS.index(task)] if task in TASKS else ()
    is_second = any((folder.parent / other / config.name).is_file() for other in before)
    return f"{task}_{config.stem}" if is_second else config.stem
