"""From the checkpoint of an alignment to a file of encoder weights with a model card.

The file holds the student alone, under the names that `--weights FILE` reads strictly for its
encoder: the official names of PE, or timm's. Teachers were never in the checkpoint; projections and
a learned mask token stay behind. Before anything is written, the file's tensors are loaded into the
encoder as the zoo builds it, and must come back bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pe_dense.alignment.student import fold_layer_scale, has_layer_scale
from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.fingerprint import feature_fingerprint
from pe_dense.encoders.low_rank import merged_state
from pe_dense.encoders.weights import load_weights
from pe_dense.files import atomic_write_bytes, atomic_write_text, file_sha256, temporary_beside

PREFIX = "backbone.encoder."


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        weights: The safetensors file.
        card: The model card.
        encoder: Name to build with `--encoder`.
        sha256: Of the weights file.
        num_tensors: In the file.
        left_out: Keys of the checkpoint that are no part of the student.
    """

    weights: Path
    card: Path
    encoder: str
    sha256: str
    num_tensors: int
    left_out: tuple[str, ...]


def export_student(
    file: Path,
    content: Mapping[str, Any],
    target: str | Path,
    *,
    fold_gains: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write the student of a checkpoint as TARGET and its card as TARGET with suffix .md.

    Args:
        file: Checkpoint that `tools/train.py` wrote.
        content: What it holds.
        target: File ending in .safetensors.
        fold_gains: Multiply LayerScale into the projections before it (the same function up to
            rounding), for a student that got LayerScale while its encoder's zoo row has none.
        overwrite: Replace existing files.

    Raises:
        ValueError: If the checkpoint is none of an alignment, a target exists, or the student does
            not fit the encoder of its name; nothing is written then.
    """
    target = Path(target)
    if target.suffix != ".safetensors":
        raise ValueError(f"{target} does not end in .safetensors; students are written as that")
    card = target.with_suffix(".md")
    for path in (target, card):
        if path.exists() and not overwrite:
            raise ValueError(f"{path} exists; add --overwrite to replace it")
    facts = content.get("meta", {}).get("pe_dense", {})
    if "alignment" not in facts:
        raise ValueError(
            f"checkpoint {file} is none of an alignment; other encoders are taken out with "
            "python tools/convert_weights.py SRC DST --to ours --encoder-only"
        )
    encoder_name = facts["alignment"]["encoder"]
    state, left_out = student_state(content["state_dict"], encoder_name, file)
    if fold_gains:
        state = fold_layer_scale(state)
    state = {key: value.contiguous().clone() for key, value in state.items()}
    metadata = {"format": "pt", "encoder": encoder_name, "step": str(content["meta"].get("iter"))}
    # The file is whole before it is read back, and takes its name only after it has passed.
    with temporary_beside(target, ".tmp.safetensors") as temporary:
        atomic_write_bytes(temporary, save(state, metadata))
        encoder = _read_back(temporary, encoder_name, state, file)
        sha256, print_of_features = file_sha256(temporary), feature_fingerprint(encoder)
        gains = "as trained" if has_layer_scale(state) else "none"
        text = model_card(
            target.name, sha256, print_of_features, _count(encoder), facts, content["meta"],
            file_sha256(file), "folded into the projections" if fold_gains else gains,
        )  # fmt: skip
        atomic_write_text(card, text)
        temporary.replace(target)
    return Exported(target, card, encoder_name, sha256, len(state), tuple(sorted(left_out)))


def student_state(
    state: Mapping[str, Tensor], encoder_name: str, file: str | Path = "checkpoint"
) -> tuple[dict[str, Tensor], list[str]]:
    """The encoder's tensors under its own names, and the keys that are no part of it.

    Raises:
        ValueError: If there is no student.
    """
    state = merged_state(state)
    own = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    if not own:
        raise ValueError(f"checkpoint {file} holds no student ({PREFIX}*)")
    if all(key.startswith("model.") for key in own):  # timm's module inside of TimmEncoder
        own = {key.removeprefix("model."): value for key, value in own.items()}
    return own, [key for key in state if not key.startswith(PREFIX)]


def _read_back(
    trial: Path, encoder_name: str, state: Mapping[str, Tensor], file: Path
) -> nn.Module:
    """The encoder as the zoo builds it, with the weights of the file.

    Raises:
        ValueError: If they do not fit, or do not come back as they are.
    """
    encoder = build_encoder(encoder_name)
    if has_layer_scale(state) and not has_layer_scale(encoder.weights_state()):
        raise ValueError(
            f"the student of {file} has LayerScale and {encoder_name} has none; add "
            "--fold-layer-scale to multiply it into the projections"
        )
    try:
        info = load_weights(encoder, trial)
    except ValueError as error:
        raise ValueError(
            f"the student of {file} is not {encoder_name} as the zoo builds it: {error}"
        ) from error
    found = encoder.weights_state()
    other = [k for k in state if k not in found or not torch.equal(found[k], state[k])]
    if info.notes or other or found.keys() - state.keys():
        raise ValueError(
            f"the student of {file} changes on its way into {encoder_name} "
            f"({'; '.join((*info.notes, *other[:3]))}); train all blocks at the encoder's own "
            "patch and grid"
        )
    return encoder.eval()


def model_card(
    name: str,
    sha256: str,
    fingerprint: str,
    num_parameters: int,
    facts: Mapping[str, Any],
    meta: Mapping[str, Any],
    checkpoint_sha256: str,
    layer_scale: str = "none",
) -> str:
    """Markdown that says what a student is: weights, data, teachers, losses, scores."""
    alignment, weights = facts["alignment"], facts.get("weights") or {}
    data = alignment["data"]
    rows = [
        ("encoder", f"`{alignment['encoder']}`, {num_parameters:,} parameters"),
        ("file", f"`{name}`, sha256 `{sha256}`"),
        ("feature fingerprint", f"`{fingerprint}`"),
        ("started from", f"{weights.get('source')}, sha256 `{weights.get('sha256')}`"),
        ("notes on the start", "; ".join(weights.get("notes") or ()) or "none"),
        ("steps", meta.get("iter")),
        ("images per step", alignment.get("total_batch")),
        ("masking", _words(alignment["masking"]) if alignment["masking"] else "none"),
        ("LayerScale", layer_scale),
        ("seed", facts.get("seed")),
        ("commit", f"{facts.get('commit')}{' (changed)' if facts.get('dirty') else ''}"),
        ("checkpoint", f"sha256 `{checkpoint_sha256}`"),
    ]
    lines = [f"# {Path(name).stem}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in rows]
    lines += ["", "Load it with", "", f"    --encoder {alignment['encoder']} --weights {name}", ""]
    lines += [
        "## Data",
        "",
        f"{data['num_images']:,} images ({data['type']}), sha256 of the set `{data['sha256']}`. "
        "The licence of the images is not known to this card.",
        "",
    ]
    lines += ["## Teachers", ""]
    for teacher in alignment["teachers"]:
        rest = {k: v for k, v in teacher.items() if k not in ("name", "type", "sha256")}
        lines.append(f"- **{teacher['name']}**: {teacher['type']}, {_words(rest)}")
        lines.append(f"  - sha256 `{teacher['sha256']}`")
    lines += ["", "## Losses", ""]
    for loss in alignment["losses"]:
        rest = {k: v for k, v in loss.items() if k not in ("name", "type")}
        lines.append(f"- **{loss['name']}**: {loss['type']}, {_words(rest)}")
    lines += ["", "## Scores during training", "", *_score_rows(facts.get("student_scores") or [])]
    if facts.get("train_command"):
        lines += ["", "## Command", "", f"    {facts['train_command']}"]
    return "\n".join(lines) + "\n"


def _score_rows(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    if not scores:
        return ["None were taken."]
    rows = ["| step | probe | scores |", "|---|---|---|"]
    for entry in scores:
        words = ", ".join(f"{k} {v:.4f}" for k, v in entry["scores"].items())
        rows.append(f"| {entry['step']} | {entry['probe']} | {words} |")
    return rows


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in settings.items())


def _count(encoder: nn.Module) -> int:
    return sum(parameter.numel() for parameter in encoder.parameters())
