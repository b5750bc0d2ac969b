"""Find, download, verify and strictly load the weights of an encoder.

Files are safetensors, or torch files read with ``weights_only``: nothing in them can run code.
Whatever fits the tower only after a change (patch side, position grid, cls token, depth) is
changed as the tower asks, and every change is noted; whatever else does not fit is an error that
says what the file looks like. Errors are raised before the first parameter is touched.

The number of attention heads leaves no trace in a state dict and cannot be checked.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pe_dense.encoders import conversion, sam3_layout
from pe_dense.encoders.contract import WeightsInfo, check_choice
from pe_dense.encoders.conversion import State, TowerLayout, read_layout, shorten
from pe_dense.encoders.open_clip_names import released_file
from pe_dense.encoders.published import require_published, revision_of
from pe_dense.encoders.torch_file import read_torch_file
from pe_dense.encoders.zoo import ENCODERS
from pe_dense.files import file_sha256

logger = logging.getLogger(__name__)

# The ways out where there is no network.
WITHOUT_HUB = (
    "start without trained weights with --weights random, or give a file that was downloaded "
    "elsewhere with --weights FILE; HF_ENDPOINT=URL names a mirror, and HF_HUB_OFFLINE=1 takes "
    "what is in the cache without asking"
)

CORE_TO_SPATIAL_HELP = (
    "pass core_to_spatial='preserve' to start as the same function, or 'published' to start as "
    "the paper does (LayerScale 0.1 damps every block)"
)


def resolve_weights(weights: str | Path) -> Path:
    """Local file of a path or of 'hf://owner/repo[@revision][:file]', downloaded if not cached.

    Without a file, 'hf://facebook/NAME' means NAME.pt, the rule of the PE releases; other
    repositories need one.

    Raises:
        ValueError: If there is no such file or repository, or the hub cannot be reached.
    """
    text = str(weights)
    if text.startswith("hf://"):
        return _download(*_parse_hub_name(text))
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise ValueError(f"weights {text} is a folder; name the .pt, .pth or .safetensors file")
    name = path.name.lower().replace("-", "_").removesuffix(".pt")
    near = difflib.get_close_matches(name, [n for n in ENCODERS if n[:3] == "pe_"], 1, 0.9)
    hint = f" (the released file is {ENCODERS[near[0]].weights})" if near else ""
    raise ValueError(
        f"weights file {text} does not exist; give the path of a .pt, .pth or .safetensors file, "
        f"hf://owner/repo[@revision][:file], or 'random'{hint}"
    )


def _parse_hub_name(name: str) -> tuple[str, str, str | None]:
    """Repository, file and revision of 'hf://owner/repo[@revision][:file]'."""
    place, _, file = name.removeprefix("hf://").partition(":")
    repo, at, revision = place.partition("@")
    owner, _, model = repo.partition("/")
    if not owner or not model or "/" in model or (at and not revision):
        raise ValueError(
            f"{name} is no hub name; write hf://owner/repo, hf://owner/repo:file or "
            "hf://owner/repo@revision:file"
        )
    if not file and owner != "facebook":
        raise ValueError(
            f"{name} does not say which file; write {name.rstrip(':')}:FILE (only "
            "hf://facebook/NAME has a default, NAME.pt)"
        )
    return repo, file or f"{model}.pt", revision or None


def _download(repo: str, file: str, revision: str | None) -> Path:
    """Fetch one file from the hub or its cache; one sentence for whatever goes wrong."""
    name = f"hf://{repo}{'' if revision is None else f'@{revision}'}:{file}"
    try:
        from huggingface_hub import errors, hf_hub_download
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name} needs huggingface_hub; pip install huggingface_hub, or download the file "
            "and give its path"
        ) from error
    try:
        with _quiet_retries():
            return Path(hf_hub_download(repo_id=repo, filename=file, revision=revision))
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        reason, cause = "it is not in the local cache and the hub cannot be reached", error
        remedy = WITHOUT_HUB
    except errors.EntryNotFoundError as error:
        reason, cause = f"the repository has no file {file}", error
        remedy = "name one of its files as hf://owner/repo:file"
    except errors.RevisionNotFoundError as error:
        reason, cause = f"the repository has no revision {revision}", error
        remedy = "name a commit, a branch or a tag of it"
    except errors.RepositoryNotFoundError as error:  # also gated and private repositories
        reason, cause = "there is no such repository, or it needs a licence or login", error
        remedy = "check the name and log in with `hf auth login`"
    except Exception as error:  # the hub raises its HTTP library's errors, which vary by version
        reason, cause = f"the download failed ({_first_line(error)})", error
        remedy = f"try again, or: {WITHOUT_HUB}"
    raise ValueError(f"{name} cannot be loaded: {reason}; {remedy}") from cause


@contextlib.contextmanager
def _quiet_retries() -> Iterator[None]:
    """Leaves the hub's retries untold, a line of an address each; how it ends is told."""
    http = logging.getLogger("huggingface_hub.utils._http")
    level = http.level
    http.setLevel(logging.ERROR)
    try:
        yield
    finally:
        http.setLevel(level)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


def read_state_dict(path: str | Path) -> State:
    """Tensors of a safetensors or torch file by name, on the CPU; nothing in it can run code.

    'state_dict', 'weights' and 'model' are unwrapped. Torch archives are memory-mapped, so a
    large file costs memory only for what is used. Settings and histories that training
    frameworks store beside the tensors are skipped without touching their classes.

    Raises:
        ValueError: If the file is damaged, is no checkpoint, or holds objects of any other
            class than tensors and plain containers.
    """
    path = Path(path)
    try:
        loaded = (
            _read_safetensors(path)
            if path.suffix == ".safetensors"
            else read_torch_file(path, mapped=True)
        )
        return conversion.unwrap(loaded)
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise ValueError(f"weights file {path} cannot be read: {reason}; check the file") from error
    except ValueError as error:
        raise ValueError(f"weights file {path} cannot be used: {error}") from error


def _read_safetensors(path: Path) -> State:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise ValueError("safetensors is not installed; pip install safetensors") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"it is damaged or no safetensors file ({_first_line(error)}); download or copy it "
            "again"
        ) from error


def first_not_finite(state: Mapping[str, Any]) -> str | None:
    """Name of the first tensor with a NaN or infinite number; None if all are finite."""
    for name, value in state.items():
        if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
            return name
    return None


def require_finite(state: Mapping[str, Any], path: str | Path) -> None:
    """Refuse weights that a training left when it diverged.

    Raises:
        ValueError: With the name of the first parameter that is not finite.
    """
    name = first_not_finite(state)
    if name is not None:
        raise ValueError(
            f"weights file {path} holds NaN or infinite numbers, first in {name}; use an earlier "
            "checkpoint"
        )


def load_weights(
    encoder: nn.Module,
    weights: str | Path,
    *,
    patch_resample: str = "bicubic",
    position_resample: str | None = None,
    core_to_spatial: str | None = None,
) -> WeightsInfo:
    """Load weights into an encoder, strictly, and say where they came from.

    The encoder reads the file, with `load_weights_file` of the contract, and says what it changed
    to make it fit, which is logged and noted. It keeps its device and data type; if anything does
    not fit, an error is raised and no parameter has changed. The options are for PE towers, see
    `fill_tower`; only those that are not at their default are passed on, so that an encoder
    without any needs to know of none.

    Args:
        encoder: Fulfils the contract, or is a module with `load_weights_file(path)`.
        weights: 'random' (nothing is loaded), a path, 'hf://repo[@revision][:file]', or
            'open_clip:<model>.<tag>'.
        patch_resample: 'bicubic' or 'pseudo-inverse', see `conversion.resample_patch`.
        position_resample: 'bicubic', as PE's converter does, or 'bilinear', as the tower does
            at run time. None is 'bicubic', but 'bilinear' with core_to_spatial='preserve', so
            that the tower is the function that the Core tower is at that size.
        core_to_spatial: 'preserve' or 'published', see `conversion.core_to_spatial`; None
            refuses a Core file in a tower without attention pool or with LayerScale.

    Returns:
        Source, sha256 and the adaptations in words.

    Raises:
        ValueError: If the file cannot be found, read or fitted, in one sentence.
    """
    if str(weights) == "random":
        return WeightsInfo("random", "random")
    place = released_file(str(weights))
    path = resolve_weights(place)
    is_hub_name = place.startswith("hf://")
    sha256 = file_sha256(path)
    is_published = is_hub_name and require_published(
        path, sha256, str(weights), _full_hub_name(place) if is_hub_name else None
    )
    source = str(weights) if is_hub_name else path.name
    options = {"patch_resample": patch_resample} if patch_resample != "bicubic" else {}
    for name, value in (
        ("position_resample", position_resample),
        ("core_to_spatial", core_to_spatial),
    ):
        if value is not None:
            options[name] = value
    kind = type(encoder).__name__
    try:
        load_weights_file = encoder.load_weights_file
    except AttributeError as error:
        raise ValueError(
            f"{kind} is no PE vision tower and has no load_weights_file(path); "
            f"{source} cannot be loaded into it"
        ) from error
    try:
        notes = tuple(load_weights_file(path, **options) or ())
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(f"{' and '.join(options)} is for PE towers, not for {kind}") from error
    for note in notes:
        logger.warning("%s: %s", source, note)
    revision = revision_of(path) if is_hub_name else None
    return WeightsInfo(source, sha256, notes, is_published, revision)


def _full_hub_name(name: str) -> str:
    """With the file that a short name means, as the zoo writes it; a revision stays."""
    repo, file, revision = _parse_hub_name(name)
    return f"hf://{repo}{'' if revision is None else f'@{revision}'}:{file}"


def fill_tower(
    encoder: nn.Module,
    path: str | Path,
    *,
    patch_resample: str = "bicubic",
    position_resample: str | None = None,
    core_to_spatial: str | None = None,
) -> tuple[str, ...]:
    """Load a file of any layout that `conversion.to_official` knows into a PE tower, strictly.

    Also one of SAM 3, see `sam3_layout`: what it holds beside the tower is named.

    Only what the tower was built with is adapted: another patch side, another position grid, no
    cls token, fewer blocks. Arguments are those of `load_weights`.

    Returns:
        Every adaptation, in words.

    Raises:
        ValueError: If the file cannot be read or fitted; no parameter has changed then.
    """
    tower = encoder.state_dict()
    on_meta = [name for name, value in tower.items() if value.is_meta]
    if on_meta:
        raise ValueError(
            f"{shorten(on_meta, 2)} of the encoder are on the meta device, which holds no "
            "values; call encoder.to_empty(device=...) before loading"
        )
    state = read_state_dict(path)
    try:
        if sam3_layout.is_sam3(state):
            state, left_out = sam3_layout.sam3_to_official(state)
        else:
            state, left_out = conversion.to_official(state), ()
        state, notes = fit_to_tower(
            state,
            tower,
            patch_resample=patch_resample,
            position_resample=position_resample,
            core_to_spatial=core_to_spatial,
        )
    except ValueError as error:
        raise ValueError(f"weights file {path} does not fit {encoder.name}: {error}") from error
    require_finite(state, path)
    encoder.load_state_dict(state, strict=True)
    return (*left_out, *notes)


def fit_to_tower(
    state: Mapping[str, Tensor],
    tower: Mapping[str, Tensor],
    *,
    patch_resample: str = "bicubic",
    position_resample: str | None = None,
    core_to_spatial: str | None = None,
) -> tuple[State, tuple[str, ...]]:
    """Change an official state dict so that it fits a tower exactly.

    Args:
        state: Vision tower in the official layout.
        tower: State dict of the tower to fill; only names and shapes are read.
        patch_resample: As in `load_weights`.
        position_resample: As in `load_weights`.
        core_to_spatial: As in `load_weights`.

    Returns:
        The state dict with the tower's names and shapes, and every change in words.

    Raises:
        ValueError: If more than patch, grid, cls token and depth differ.
    """
    check_choice("patch_resample", patch_resample, conversion.PATCH_METHODS)
    check_choice("position_resample", position_resample, (None, *conversion.POSITION_METHODS))
    check_choice("core_to_spatial", core_to_spatial, (None, *conversion.CORE_METHODS))
    have, want = read_layout(state), read_layout(tower)

    def mismatch(remedy: str | None = None) -> ValueError:
        return ValueError(_mismatch(state, tower, have, want, remedy))

    if (have.embed_dim, have.mlp_hidden) != (want.embed_dim, want.mlp_hidden):
        raise mismatch()
    if have.depth < want.depth:
        raise mismatch(f"build the encoder with depth={have.depth}")
    if not have.pool and ("proj" in state or "ln_post.weight" in state):
        raise mismatch(
            "a final norm or projection without attention pool belongs to another CLIP model, "
            "which timm:<model name> loads"
        )
    if have.layer_scale and not want.layer_scale:
        raise mismatch("build the encoder with layer_scale=0.1, or the file's gains would be lost")
    if want.cls_token and not have.cls_token:
        raise mismatch("build the encoder with cls_token=False")

    state, notes = _fit_head(dict(state), have, want, core_to_spatial, mismatch)
    old = have.num_positions
    if have.cls_token and not want.cls_token:
        state = conversion.drop_cls_token(state)
        notes.append("cls token and its position dropped")
    elif not have.cls_token and not _is_square(old) and _is_square(old - 1):
        # Detection files of models with a cls token may keep its position but not the token.
        state["positional_embedding"] = state["positional_embedding"][1:]
        notes.append("position of an absent cls token dropped")
    if have.depth > want.depth:
        blocks = tuple(f"transformer.resblocks.{i}." for i in range(want.depth, have.depth))
        state = {key: value for key, value in state.items() if not key.startswith(blocks)}
        notes.append(f"blocks {want.depth}..{have.depth - 1} of {have.depth} dropped")
    if have.patch_size != want.patch_size:
        kernel = state["conv1.weight"]
        state["conv1.weight"] = conversion.resample_patch(kernel, want.patch_size, patch_resample)
        notes.append(f"patch {have.patch_size} resampled to {want.patch_size}, {patch_resample}")
    if position_resample is None:
        position_resample = "bilinear" if core_to_spatial == "preserve" else "bicubic"
    positions = state["positional_embedding"]
    if len(positions) != want.num_positions:
        prefix = int(want.cls_token)
        old_side, side = (math.isqrt(n - prefix) for n in (len(positions), want.num_positions))
        state["positional_embedding"] = conversion.resample_positions(
            positions, (side, side), prefix, position_resample
        )
        grids = f"{old_side}x{old_side} resampled to {side}x{side}"
        notes.append(f"positions {grids}, {position_resample}")
    if differences(state, tower):
        raise mismatch()
    return state, tuple(notes)


def _fit_head(
    state: State,
    have: TowerLayout,
    want: TowerLayout,
    method: str | None,
    mismatch: Callable[[str], ValueError],
) -> tuple[State, list[str]]:
    """Turn a Core state dict into a Spatial one where the tower needs it and `method` allows."""
    loses_pool, gains_scale = have.pool > want.pool, want.layer_scale > have.layer_scale
    needed = (loses_pool or gains_scale) and not want.pool
    if method is None:
        if needed:
            raise mismatch(CORE_TO_SPATIAL_HELP)
        return state, []
    if not needed:
        raise mismatch("leave core_to_spatial out: no Core file goes into a Spatial tower here")
    gain = conversion.LAYER_SCALE_OF_SPATIAL_G if gains_scale else None
    state = conversion.core_to_spatial(state, gain, method)
    added = 1.0 if method == "preserve" else gain
    scale = f", LayerScale {added} added to every block" if gains_scale else ""
    return state, [f"Core to Spatial ({method}): head removed{scale}"]


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def differences(state: Mapping[str, Tensor], tower: Mapping[str, Tensor]) -> str:
    """Keys that do not fit, shortened; empty if all do."""
    missing = [key for key in tower if key not in state]
    unexpected = [key for key in state if key not in tower]
    other = [
        f"{key} {tuple(value.shape)}, not {tuple(tower[key].shape)}"
        for key, value in state.items()
        if key in tower and value.shape != tower[key].shape
    ]
    types = [
        f"{key} ({value.dtype})"
        for key, value in state.items()
        if key in tower and value.is_floating_point() != tower[key].is_floating_point()
    ]
    parts = {"missing": missing, "unexpected": unexpected, "shape": other, "type": types}
    return "; ".join(f"{what} {shorten(keys)}" for what, keys in parts.items() if keys)


def _mismatch(
    state: Mapping[str, Tensor],
    tower: Mapping[str, Tensor],
    have: TowerLayout,
    want: TowerLayout,
    remedy: str | None = None,
) -> str:
    name = have.nearest_encoder()
    looks = f"looks like {name} ({have.describe()})" if name else f"has {have.describe()}"
    if remedy is None:
        remedy = f"build {name}, or give another file" if name else "give another file"
    found = differences(state, tower) or "no key differs"
    return f"the file {looks}, the tower has {want.describe()}; {remedy} [{found}]"
