"""Names of open_clip's models: architecture, tag of weights, normalisation, where a file is.

`open_clip:<model>` is an architecture with any weights, `open_clip:<model>.<tag>` one with released
weights, as open_clip lists them. open_clip, and the torchvision that it needs, are imported when a
name is looked up, never before.

Source: mlfoundations/open_clip 3.3 (factory.py, pretrained.py), through its public functions only.
"""

from __future__ import annotations

import copy
import difflib
from types import ModuleType
from typing import Any, NamedTuple

import torch

PREFIX = "open_clip:"
# OpenAI's mean and deviation, which open_clip takes where nothing else is said.
DEFAULT_MEAN = (0.48145466, 0.4578275, 0.40821073)
DEFAULT_STD = (0.26862954, 0.26130258, 0.27577711)


class OpenClipName(NamedTuple):
    """A name, looked up.

    Attributes:
        model: open_clip's name of the architecture.
        tag: open_clip's name of the weights, None for none.
        config: open_clip's settings of the architecture (a copy).
        mean: RGB mean in 0..1.
        std: RGB standard deviation in 0..1.
    """

    model: str
    tag: str | None
    config: dict[str, Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def import_open_clip() -> ModuleType:
    """Import open_clip, or say in one sentence what is missing.

    Raises:
        ValueError: If open_clip, timm or torchvision is missing, or torchvision does not fit torch.
    """
    try:
        import open_clip
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "open_clip":
            raise ValueError(
                "the package open_clip_torch is not installed; run: pip install 'pe_dense[text]'"
            ) from error
        raise ValueError(
            f"open_clip cannot be imported because {missing} is not installed; pip install "
            f"{missing} (torchvision must be built for the torch that is installed)"
        ) from error
    except (RuntimeError, ImportError, OSError, AttributeError) as error:
        raise ValueError(
            f"open_clip cannot be imported ({error}); this usually means that torchvision was "
            f"built for another torch than {torch.__version__}: install the torchvision of the "
            "same release and device"
        ) from error
    return open_clip


def find_open_clip(name: str) -> OpenClipName:
    """Look up 'open_clip:<model>' or 'open_clip:<model>.<tag>'.

    An architecture alone has the normalisation that all its released weights share.

    Raises:
        ValueError: If open_clip does not know the model or the tag; if the weights were trained
            with QuickGELU and the architecture has GELU, or the other way round; if the weights of
            an architecture differ in normalisation and none is named.
    """
    open_clip = import_open_clip()
    model, _, tag = name.removeprefix(PREFIX).partition(".")
    if model not in open_clip.list_models():
        near = difflib.get_close_matches(model, open_clip.list_models(), n=4, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "see open_clip.list_models()"
        raise ValueError(f"open_clip {open_clip.__version__} knows no model {model!r}; {hint}")
    config = copy.deepcopy(open_clip.get_model_config(model))
    tags = open_clip.list_pretrained_tags_by_model(model)
    settings = {each: open_clip.get_pretrained_cfg(model, each) for each in tags}
    if tag:
        if tag not in settings:
            raise ValueError(
                f"open_clip knows no weights {model}.{tag}; those of {model}: "
                f"{', '.join(tags) or 'none'}"
            )
        _require_activation(model, tag, config, settings[tag])
        settings = {tag: settings[tag]}
    default = {"mean": DEFAULT_MEAN, "std": DEFAULT_STD}
    used = {
        (tuple(each["mean"]), tuple(each["std"])) for each in (settings or {"": default}).values()
    }
    if len(used) > 1:
        raise ValueError(
            f"the weights of open_clip's {model} were trained with different normalisations; name "
            f"one: {', '.join(f'{PREFIX}{model}.{each}' for each in tags)}"
        )
    mean, std = used.pop()
    return OpenClipName(model, tag or None, config, mean, std)


def _require_activation(
    model: str, tag: str, config: dict[str, Any], weights: dict[str, Any]
) -> None:
    """open_clip only warns here, and every number would be off."""
    trained, built = bool(weights.get("quick_gelu")), bool(config.get("quick_gelu"))
    if trained == built or "timm_model_name" in config["vision_cfg"]:
        return
    other = f"{model}-quickgelu" if trained else model.removesuffix("-quickgelu")
    words = ("with QuickGELU", "with GELU") if trained else ("with GELU", "with QuickGELU")
    raise ValueError(
        f"the weights {tag} were trained {words[0]}, and open_clip builds {model} {words[1]}; use "
        f"{PREFIX}{other}.{tag}"
    )


def released_file(name: str) -> str:
    """'hf://repo:file' of 'open_clip:<model>.<tag>'; anything else comes back as it is.

    Raises:
        ValueError: If no tag is named, or its weights are on no hub.
    """
    if not name.startswith(PREFIX):
        return name
    found = find_open_clip(name)
    open_clip = import_open_clip()
    if found.tag is None:
        tags = open_clip.list_pretrained_tags_by_model(found.model)
        choice = ", ".join(f"{PREFIX}{found.model}.{tag}" for tag in tags) or "none are known"
        raise ValueError(f"{name} names no weights; name them ({choice}), or give a file")
    place = open_clip.get_pretrained_cfg(found.model, found.tag).get("hf_hub") or ""
    repo, _, file = place.rpartition("/")
    if not repo:
        raise ValueError(
            f"open_clip has the weights {found.model}.{found.tag} on no hub; download them and "
            "give the file"
        )
    return f"hf://{repo}:{file or 'open_clip_model.safetensors'}"
