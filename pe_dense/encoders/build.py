"""From a name to an encoder: with random weights, or with those that a config asks for.

The zoo says what an encoder is and `weights` how a file gets into it; this file joins the two. It
is the only one that knows the classes behind the families of the zoo, and imports them when they
are built: timm is not needed for a PE tower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pe_dense.encoders.contract import WeightsInfo
from pe_dense.encoders.weights import load_weights
from pe_dense.encoders.zoo import BOTH_TOWERS, TEXT_TOWERS, find_encoder

if TYPE_CHECKING:
    from pe_dense.encoders.open_clip_text import OpenClipImageText
    from pe_dense.encoders.open_clip_vision import OpenClipEncoder
    from pe_dense.encoders.pe import PerceptionEncoder
    from pe_dense.encoders.text_tower import ImageTextModel
    from pe_dense.encoders.timm_vit import TimmEncoder


def build_encoder(name: str, **options: Any) -> PerceptionEncoder | TimmEncoder | OpenClipEncoder:
    """Build an encoder by name with random weights; see `build_loaded` for others.

    Parameters are drawn from the global generator, on PyTorch's default device ('meta' gives an
    encoder without values, to read its sizes).

    Args:
        name: A name of the zoo, 'timm:<model name>', or 'open_clip:<model>[.<tag>]'.
        **options: Keyword arguments of `PerceptionEncoder` (or of the adapter) that override the
            row, for example `depth=6`, `window_size=24, cls_token=False`, `remainder='pad'`.

    Returns:
        A module that fulfils `contract.Encoder`.

    Raises:
        ValueError: If the name is unknown or an option does not exist.
    """
    spec = find_encoder(name)
    if spec.family == "pe":
        from pe_dense.encoders.pe import PerceptionEncoder

        encoder_class: type[PerceptionEncoder | TimmEncoder | OpenClipEncoder] = PerceptionEncoder
    elif spec.family == "open_clip":
        from pe_dense.encoders.open_clip_vision import OpenClipEncoder

        encoder_class = OpenClipEncoder
    else:
        from pe_dense.encoders.timm_vit import TimmEncoder

        encoder_class = TimmEncoder
    arch = dict(spec.arch)
    if "global_blocks" in arch and "global_blocks" not in options:
        arch["global_blocks"] = _global_blocks_left(arch, options)
    try:
        return encoder_class(**{**arch, **options})
    except TypeError as error:
        if not options:
            raise
        if "unexpected keyword argument" in str(error):
            raise ValueError(f"encoder {name} has no such option: {error}") from error
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise ValueError(f"encoder {name} cannot be built with {given}: {error}") from error


def _global_blocks_left(arch: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[int, ...]:
    """Global blocks of a row, counted in the whole tower, that the first `depth` blocks hold."""
    if options.get("window_size", arch["window_size"]) is None:
        return ()  # all are global
    depth = options.get("depth", arch["depth"])
    return tuple(i for i in arch["global_blocks"] if i < depth)


def build_loaded(
    name: str,
    weights: str = "released",
    weights_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[PerceptionEncoder | TimmEncoder | OpenClipEncoder, WeightsInfo]:
    """Build an encoder and load its weights.

    Args:
        name: A name of the zoo, 'timm:<model name>', or 'open_clip:<model>[.<tag>]'.
        weights: 'released' (what the zoo names), 'random', a path, or 'hf://repo[:file]'.
        weights_options: Further arguments of `weights.load_weights`.
        **options: As for `build_encoder`.

    Returns:
        The encoder, and where its parameters came from.

    Raises:
        ValueError: For an unknown encoder or option, or a weights file that cannot be used.
    """
    source = find_encoder(name).weights if weights == "released" else weights
    if source == "timm":  # timm loads its own weights as it builds
        encoder = build_encoder(name, **{**options, "pretrained": True})
        return encoder, encoder.weights_info()
    encoder = build_encoder(name, **options)
    return encoder, load_weights(encoder, source, **(weights_options or {}))


def build_image_text(
    name: str, weights: str = "random", image_size: int | None = None
) -> tuple[ImageTextModel | OpenClipImageText, WeightsInfo]:
    """Build a model of both towers, and load its file whole.

    Whatever the family, the model has `encode_image`, `encode_video`, `encode_text`, `logits`,
    `tokenize`, `text.context_length`, and `visual`, an encoder with `mean`, `std` and `native_hw`.

    Args:
        name: One of `zoo.TEXT_TOWERS`, or 'open_clip:<model>[.<tag>]'.
        weights: 'random', 'released', a path, or 'hf://repo[@revision][:file]'.
        image_size: Native side in pixels of the position grid; None keeps the released one.

    Raises:
        ValueError: For an encoder without a text tower, or a file that cannot be used.

    Example:
        >>> model, info = build_image_text("pe_core_t16_384")
        >>> model.text.context_length, info.source
        (32, 'random')
    """
    spec = find_encoder(name)
    file = spec.weights if weights == "released" else weights
    if spec.family == "open_clip":
        from pe_dense.encoders.open_clip_text import OpenClipImageText

        whole = OpenClipImageText(name, image_size)
        return whole, load_weights(whole, file)
    if name not in TEXT_TOWERS:
        raise ValueError(_without_text(name))
    from pe_dense.encoders.text_tower import ImageTextModel, TextTower, load_image_text

    context_length, embed_dim, depth, num_heads = TEXT_TOWERS[name]
    text = TextTower(
        context_length=context_length,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        output_dim=spec.arch["output_dim"],
    )
    options = {} if image_size is None else {"image_size": image_size}
    model = ImageTextModel(build_encoder(name, **options), text)
    return model, load_image_text(model, file)


def _without_text(name: str) -> str:
    if name in BOTH_TOWERS:
        return f"{name} is a vision tower alone; the model of both towers is {BOTH_TOWERS[name]}"
    return (
        f"{name} has no text tower; those that do: {', '.join(TEXT_TOWERS)}, and models of "
        "open_clip as open_clip:<model>"
    )
