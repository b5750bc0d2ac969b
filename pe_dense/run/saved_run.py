"""A run that is opened from its checkpoint alone: no config file, no data, no option typed again.

    run = open_saved(Path("work_dirs/street"))
    model = trained_model(run)

What the checkpoint says of its config is data of a file that anyone may have written. Opening it
reads no other file, writes none, asks no network, and runs no code but this project's; what would
is refused by name (see `stored_rules`). Only `with_data` reads the data, as scoring does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.run.changed_settings import require_no_training
from pe_dense.run.checkpoint import RunFacts, checkpoint_file, load_checkpoint_safely
from pe_dense.run.config import facts_of_data, overridden, resolved
from pe_dense.run.layers_option import require_chosen
from pe_dense.run.protocol import followed_sha256, protocol_sha256
from pe_dense.run.protocol_facts import stated_protocol
from pe_dense.run.recipe import Recipe, with_accepted
from pe_dense.run.references import Given
from pe_dense.run.stored_rules import (
    Trusted,
    import_modules,
    of_project,
    refused_if_malformed,
    require_harmless,
    require_small,
    require_trusted,
    without_training,
)
from pe_dense.run.trained_run import TrainedRun, use_plain_weights

_PLAN = ("planned_for",)


def open_saved(
    checkpoint: str | Path,
    options: Mapping[str, Any] | None = None,
    accept: Sequence[str] = (),
    *,
    with_data: bool = False,
) -> TrainedRun:
    """A run from its checkpoint alone; `trained_model` builds its model.

    Args:
        checkpoint: A checkpoint file, or a work dir whose newest one is meant.
        options: As `--cfg-options`, on top of those of the training.
        accept: Faults of the data that are accepted besides those of the training.
        with_data: Find out again what the config finds in its data, which are read for that, as
            scoring needs it; else what training found is taken.

    Raises:
        ValueError: If the checkpoint is damaged, does not know its config, or its config is not
            what it was trained with or does more than a config of this project.
    """
    file = checkpoint_file(Path(checkpoint))
    content = load_checkpoint_safely(str(file), map_location="cpu")
    with refused_if_malformed(file):
        return _opened(file, content, options, accept, with_data)


def _opened(
    file: Path,
    content: dict[str, Any],
    options: Mapping[str, Any] | None,
    accept: Sequence[str],
    with_data: bool,
) -> TrainedRun:
    facts = facts_in(content, file)
    recipe = recipe_of(facts, file)
    trusted = of_project()
    trained = stored_template(recipe, facts, file, trusted)
    now = changed(trained, recipe, options, accept, file)
    require_trusted(now, file, trusted.and_of_options(options))
    import_modules(now)
    if with_data:
        now = with_found_root(now, recipe, file)
    data = found_again(now, recipe) if with_data else recipe.data
    require_chosen(now, data, file)
    cfg = resolved(now, recipe.config, data)
    require_harmless(cfg, file, trusted.and_of_options(options), with_data)
    stated_protocol(cfg, recipe.config)
    use_plain_weights(cfg)
    own = protocol_sha256(recipe.as_written())
    return TrainedRun(
        file, content, facts, without_training(cfg, options), now, recipe.config, trained, own
    )


def facts_in(content: Mapping[str, Any], file: Path) -> RunFacts:
    """What a checkpoint that tools/train.py wrote knows of its run.

    Raises:
        ValueError: If something else wrote it.
    """
    meta = content.get("meta", {}).get("pe_dense")
    return RunFacts.from_meta(meta if isinstance(meta, Mapping) else {}, file)


def recipe_of(facts: RunFacts, file: Path) -> Recipe:
    """What a checkpoint knows of its config.

    Raises:
        ValueError: If it was written before checkpoints knew.
    """
    if facts.recipe is None:
        raise ValueError(
            f"checkpoint {file} does not know its config, since an earlier version wrote it; name "
            f"the CONFIG before it, and the options of: {facts.train_command}"
        )
    return Recipe.from_meta(facts.recipe, file)


def stored_template(recipe: Recipe, facts: RunFacts, file: Path, trusted: Trusted | None) -> Config:
    """The config of the training, references in place, once it is sure to be that.

    Args:
        recipe: What the checkpoint knows of it.
        facts: Of the run.
        file: How errors call the checkpoint.
        trusted: What it may name; None where it is only compared, and nothing of it used.

    Raises:
        ValueError: If it is not what the protocol's hash was taken of.
    """
    require_small(recipe.as_written(), file)
    template = recipe.template(facts.encoder)
    require_small(template, file)
    if trusted is not None:
        require_trusted(template, file, trusted)
    if followed_sha256(template, facts) != facts.protocol_sha256:
        raise ValueError(
            f"checkpoint {file} holds another config than it was trained with, or another version "
            f"of pe_dense wrote it; name the CONFIG before it, as in: {facts.train_command}"
        )
    return template


def changed(
    trained: Config,
    recipe: Recipe,
    options: Mapping[str, Any] | None,
    accept: Sequence[str],
    file: Path,
) -> Config:
    """The config of the training with further options.

    Raises:
        ValueError: If one names nothing, or what only training has.
    """
    now = with_accepted(overridden(trained, recipe.config, options=options), accept)
    if options:
        require_no_training(trained, now, file)
    return now


def found_again(template: Config, recipe: Recipe, config: str | None = None) -> dict[str, Any]:
    """What is in the data now, with the plan and the numbers that the model was trained by.

    Names, files and hashes are found again, and are compared elsewhere. Numbers, such as the side
    of images or the range of depths, are the model's: another machine, or a picture more, would
    plan otherwise.
    """
    kept = {key: value for key, value in recipe.data.items() if key in _PLAN or _is_number(value)}
    return {**facts_of_data(template, config or recipe.config), **kept}


def _is_number(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_is_number, value))
    return isinstance(value, int | float)


def with_found_root(template: Config, recipe: Recipe, file: Path) -> Config:
    """The config with the folder of its data as it is seen from here.

    A relative folder is looked for in the current folder, then in the one that was trained in.

    Raises:
        ValueError: If it is in neither.
    """
    root = template.get("data_root")
    if not isinstance(root, str) or Path(root).is_dir():
        return template
    before = Path(recipe.folder).expanduser() / root
    if not recipe.folder or not before.is_dir():
        raise ValueError(
            f"{root}, the data that checkpoint {file} was trained on, is not here; say where they "
            "are with --cfg-options data_root=FOLDER"
        )
    found = Config(template.to_dict(), filename=template.filename)
    found.data_root = Given(before)
    return found
