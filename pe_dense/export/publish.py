"""From a checkpoint to the folder that the Hub gets: weights, config, model card.

The folder is opened again, as others will open it, before it takes its name: every tensor must come
back bit for bit, and the config must be the one that was trained.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pe_dense.export.facts import licence_of
from pe_dense.export.own_folders import without_folders
from pe_dense.files import file_sha256
from pe_dense.results.record import Record
from pe_dense.results.store import load_readable
from pe_dense.run.published_folder import CARD, CONFIG, FORMAT, WEIGHTS, to_json
from pe_dense.run.saved_run import open_saved
from pe_dense.run.trained_run import TrainedRun

# Names of licences as the Hub's cards have them; others are 'other' with a name and a link.
HUB_LICENCES = {
    "Apache-2.0": "apache-2.0", "MIT": "mit", "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
}  # fmt: skip
HUB_TASKS = {
    "detection": "object-detection", "segmentation": "image-segmentation",
    "depth": "depth-estimation",
}  # fmt: skip


def write_folder(
    checkpoint: Path, folder: Path, name: str, records: Path, overwrite: bool = False
) -> Path:
    """Write a checkpoint as a folder for the Hub.

    Args:
        checkpoint: A file of tools/train.py, or a work dir whose newest one is meant.
        folder: New; its name is no matter.
        name: 'owner/name' of the repository, for the card.
        records: Root of the records whose scores of this checkpoint stand on the card.
        overwrite: Replace a folder of before, of which only our three files are touched.

    Raises:
        ValueError: If the checkpoint does not know its config, the folder exists, or what was
            written does not come back as it was; or if it names a folder of this machine where
            none can be taken out.
    """
    if folder.exists() and not overwrite:
        raise ValueError(f"{folder} exists; name a new folder, or add --overwrite")
    run = open_saved(checkpoint)
    assert run.file is not None and run.content is not None
    run = dataclasses.replace(run, facts=without_folders(run.facts, run.file))
    assert run.file is not None
    scores = records_of(file_sha256(run.file), records)
    trial = folder.parent / f".{folder.name}.tmp"
    shutil.rmtree(trial, ignore_errors=True)
    trial.mkdir(parents=True)
    try:
        state = {k: v.detach().cpu().contiguous().clone() for k, v in state_of(run).items()}
        save_file(state, trial / WEIGHTS, metadata={"format": "pt"})
        meta = {"pe_dense": run.facts.to_meta()}
        stored = dict(library="pe_dense", format=FORMAT, checkpoint=to_json(meta))
        (trial / CONFIG).write_text(json.dumps(stored, indent=1, sort_keys=True), encoding="utf-8")
        card = model_card(run, name, file_sha256(trial / WEIGHTS), scores)
        (trial / CARD).write_text(card, encoding="utf-8")
        _require_same(run, trial)
        folder.mkdir(parents=True, exist_ok=True)
        for file in (WEIGHTS, CONFIG, CARD):
            (trial / file).replace(folder / file)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return folder


def state_of(run: TrainedRun) -> Mapping[str, torch.Tensor]:
    """The tensors that the model is built with."""
    assert run.content is not None
    return run.content["state_dict"]


def _require_same(run: TrainedRun, folder: Path) -> None:
    """Open the folder as its readers will.

    Raises:
        ValueError: If something has changed on the way.
    """
    again = open_saved(folder)
    written, read = state_of(run), state_of(again)
    other = sorted(
        key for key in written.keys() | read.keys()
        if key not in read or key not in written or not torch.equal(written[key].cpu(), read[key])
    )  # fmt: skip
    if other or again.facts != run.facts or again.cfg.model != run.cfg.model:
        raise ValueError(
            f"checkpoint {run.file} does not come back from its folder as it was "
            f"({', '.join(other[:3]) or 'its config'}); it was not published"
        )


def records_of(sha256: str, root: Path) -> list[Record]:
    """Measured records of a checkpoint."""
    if not root.is_dir():
        return []
    return [r for r in load_readable(root)[0] if r.checkpoint_sha256 == sha256]


def upload(folder: Path, name: str, private: bool) -> str:
    """Send a folder to the Hub as the person who is logged in; returns its address.

    Raises:
        ValueError: If the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=[WEIGHTS, CONFIG, CARD]
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"the Hub did not take {name} ({reason}); log in with: hf auth login"
        ) from error
    return str(done)


def model_card(run: TrainedRun, name: str, sha256: str, records: Sequence[Record]) -> str:
    """Markdown that says what the model is: data, protocol, scores, licence, how to use it."""
    facts, cfg = run.facts, run.cfg
    licence = licence_of(facts.encoder, facts.scored_weights)
    protocol: Mapping[str, Any] = cfg.get("protocol") or {}
    task = str(protocol.get("task", ""))
    lines = ["---", "library_name: pe_dense", *_licence_lines(licence)]
    if task in HUB_TASKS:
        lines.append(f"pipeline_tag: {HUB_TASKS[task]}")
    lines += ["tags:", "- pe_dense", "- perception-encoder", "---", "", f"# {name}", ""]
    lines += ["```python", "from pe_dense import load", f'model = load("hf://{name}")']
    lines += ['model("street.jpg").save("found.png")', "```", "", "| | |", "|---|---|"]
    classes = [str(c) for c in cfg.get("classes") or ()]
    known = f"{protocol.get('id')}-v{protocol.get('version')}" if protocol else "none"
    data = f"{protocol.get('dataset', 'a data set of its own')}"
    rows = [
        ("task", task or "unknown"),
        ("encoder", f"`{facts.encoder}`"),
        ("encoder's weights", f"{facts.scored_weights.source}, "
                              f"sha256 `{facts.scored_weights.sha256}`"),
        ("licence of these", _licence_words(licence)),
        ("classes", f"{len(classes)}: {', '.join(classes)}" if classes else "none"),
        ("protocol", f"`{known}`"),
        ("data", data),
        ("hash of the training data", f"`{facts.trained_on}`" if facts.trained_on else "not kept"),
        ("seed", facts.seed),
        ("command", f"`{facts.train_command}`" if facts.train_command else "none"),
        ("commit", f"{facts.commit}{' (changed)' if facts.dirty else ''}"),
        (WEIGHTS, f"sha256 `{sha256}`"),
    ]  # fmt: skip
    lines += [f"| {key} | {value} |" for key, value in rows]
    lines += ["", "## Scores", "", *_score_lines(records), ""]
    lines += [
        "The licence of the data is not known to this card, and neither is what its pictures allow;"
        " the weights of the encoder have the licence above, and this model was made from them.",
        "",
    ]
    return "\n".join(lines)


def _licence_lines(licence: Mapping[str, Any]) -> list[str]:
    name = licence["name"]
    if name in HUB_LICENCES:
        return [f"license: {HUB_LICENCES[name]}"]
    lines = ["license: other", f'license_name: "{name}"']
    return [*lines, f"license_link: {licence['url']}"] if licence["url"] else lines


def _licence_words(licence: Mapping[str, Any]) -> str:
    words = f"[{licence['name']}]({licence['url']})" if licence["url"] else str(licence["name"])
    return words + (", no commercial use" if licence["is_non_commercial"] else "")


def _score_lines(records: Sequence[Record]) -> list[str]:
    """A table of the main metric of each record, with its interval."""
    if not records:
        return ["None was recorded: tools/test.py scores the model and writes a record."]
    lines = ["| protocol | data | metric | score | 95 % interval |", "|---|---|---|---|---|"]
    for record in records:
        protocol, metric = record.protocol, record.protocol.metric
        ci = (record.ci95 or {}).get(metric)
        interval = f"{ci[0].low:.4f} to {ci[0].high:.4f} (by {ci[0].unit})" if ci else "none"
        lines.append(
            f"| `{protocol.id}-v{protocol.version}` | {record.dataset.name} | {metric} | "
            f"{record.scores[metric]:.4f} | {interval} |"
        )
    return lines
