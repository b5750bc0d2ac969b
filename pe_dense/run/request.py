"""What a person asks of a run at the command line; everything else stands in the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.run.config import load_config

NEEDED = ("model", "encoder", "weights", "protocol", "randomness", "env_cfg", "custom_hooks")


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
        cfg, template = load_config(self.config, self.encoder, self.weights, self.options)
        for config in (cfg, template) if self.accept else ():  # where it is hashed and where read
            config.accept = sorted({*config.get("accept", ()), *self.accept})
        for name in NEEDED:
            if name not in cfg:
                raise ValueError(
                    f"config {self.config} has no {name!r}, which every run needs; start from one "
                    "of configs/"
                )
        if self.seed is not None:
            if not 0 <= self.seed < 2**32:
                raise ValueError(f"--seed {self.seed} must be 0 to 2**32 - 1")
            cfg.randomness.seed = self.seed
        return cfg, template

    def default_work_dir(self) -> Path:
        """work_dirs/<config>[-<encoder>][-<weights>][-seed<n>]: variants of a recipe stay apart.

        Example:
            >>> RunRequest("configs/a.py", encoder="timm:vit", seed=1).default_work_dir().as_posix()
            'work_dirs/a-timm+vit-seed1'
        """
        name = Path(self.config).stem
        for part in (self.encoder, Path(self.weights).name if self.weights else None):
            if part is not None:
                name += "-" + part.replace(":", "+").replace("/", "=")
        if self.seed is not None:
            name += f"-seed{self.seed}"
        return Path("work_dirs") / name
