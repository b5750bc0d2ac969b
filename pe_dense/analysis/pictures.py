"""Pictures of features, similarity and attention: panels side by side, one PNG per image.

One square of a panel is one token: nothing is interpolated. Shape legend: H W pixels, h w grid,
L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from pe_dense.analysis.attention import BlockAttention, read_attention
from pe_dense.analysis.encoder_images import (
    EncoderImage,
    foreground_grid,
    layer_maps,
    read_for_encoder,
)
from pe_dense.analysis.feature_colours import (
    MIX,
    colour_map,
    fit_basis,
    guess_foreground,
    low_pass,
)
from pe_dense.analysis.global_tokens import MIN_REACH, MIN_RECEIVED, token_statistics
from pe_dense.analysis.similarity import similarity_map, token_at
from pe_dense.encoders.contract import check_choice, resolve_indices
from pe_dense.encoders.token_parts import token_parts
from pe_dense.pictures.colours import (
    OUTSIDE,
    SHARE_COLOURS,
    colour_table,
    coloured,
    filled,
)
from pe_dense.pictures.drawing import (
    MARGIN,
    Panel,
    panel_grid,
    panel_scale,
    resized,
    stacked,
    with_scale_bar,
)
from pe_dense.pictures.folder import Folder
from pe_dense.text_dense.class_vectors import name_vectors
from pe_dense.text_dense.patch_scores import patch_cosines
from pe_dense.text_dense.readouts import READOUTS, patch_embeddings

TABLE = "global_tokens.tsv"
LAYERS_AT_ONCE = 8  # whose queries and keys are in memory together
COSINES, LOG_SHARES = (-1.0, 1.0), (-4.0, 4.0)  # ends of the colours
MAX_IN_ROW = 5  # panels


@dataclass(frozen=True)
class Views:
    """Whose views are drawn, and where to.

    Attributes:
        out: New or empty folder.
        encoder: In eval mode.
        files: Images.
        layers: Block indices, negatives allowed.
        heading: First line of the index.
        short_side: See `read_for_encoder`.
        on_progress: Called with (images done, images to do).
    """

    out: Path
    encoder: nn.Module
    files: Sequence[Path]
    layers: Sequence[int]
    heading: str = ""
    short_side: int | None = None
    on_progress: Callable[[int, int], None] = lambda done, total: None

    def indices(self) -> list[int]:
        """Blocks from 0."""
        return resolve_indices(self.layers, self.encoder.depth)

    def images(self, as_stored: bool = False) -> Iterator[EncoderImage]:
        """Images as the encoder sees them, each told once it is done with."""
        for number, file in enumerate(self.files, start=1):
            yield read_for_encoder(file, self.encoder, self.short_side, as_stored)
            self.on_progress(number, len(self.files))


def write_feature_pictures(
    views: Views,
    *,
    order: str = "LCh",
    mix: float = MIX,
    share_basis: bool = False,
    masks: Sequence[Path] | None = None,
    guess: bool = False,
) -> list[str]:
    """The image and, for every layer, its features as colours.

    Args:
        views: Encoder, images, layers.
        order: Channel of the first, second and third component.
        mix: Share of the blurred map, 0.5 in the paper.
        share_basis: One basis for all images, so that a colour means the same in all of them.
        masks: One file per image; the PCA sees their foreground alone, the rest is grey.
        guess: The same with a foreground that `guess_foreground` guesses.

    Returns:
        A line for each picture; '(!)' marks a picture whose components may come in another order
        on another machine.

    Raises:
        ValueError: For unusable images, layers, masks or options; nothing is written then.
    """
    encoder, files, indices = views.encoder, views.files, views.indices()
    if masks is not None and len(masks) != len(files):
        raise ValueError(f"{len(masks)} masks for {len(files)} images; give one for each")
    if masks is not None and guess:
        raise ValueError("masks and a guessed foreground exclude each other; choose one")
    folder, images, maps_IL, lines = Folder(views.out), [], [], []
    for image in views.images(as_stored=masks is not None):
        images.append(image)
        found = layer_maps(encoder, image, indices)
        maps_IL.append([low_pass(each, mix).astype(np.float32) for each in found])
    given = None
    if masks is not None:
        pairs = zip(masks, images, strict=True)
        given = [foreground_grid(mask, image, encoder.patch_size) for mask, image in pairs]
    groups = [range(len(files))] if share_basis else [[i] for i in range(len(files))]
    panels: list[list[Panel]] = [[] for _ in files]
    notes: list[list[str]] = [[] for _ in files]
    for group in groups:
        for k, layer in enumerate(indices):
            maps = [maps_IL[i][k] for i in group]
            foreground = guess_foreground(maps) if guess else None
            foreground = [given[i] for i in group] if given else foreground
            basis = fit_basis(maps, foreground)
            mark = " (!)" if basis.is_ambiguous else ""
            for place, i in enumerate(group):
                rgb_hw3 = (255 * colour_map(maps[place], basis, order)).round().astype(np.uint8)
                if foreground is not None:
                    rgb_hw3 = filled(rgb_hw3, ~foreground[place], OUTSIDE)
                panels[i].append(_panel(rgb_hw3, images[i], f"layer {layer}"))
                notes[i].append(f"layer {layer} {basis.share:.0%}{mark}")
    for i, image in enumerate(images):
        picture = panel_grid([_image_panel(image), *panels[i]]).picture_HW3
        name = folder.add(i + 1, image.file.stem, picture)
        lines.append(f"{name}  variance shown: {', '.join(notes[i])}  {image.file}")
    return folder.close(lines, views.heading)


def write_similarity_pictures(views: Views, point_xy: tuple[float, float]) -> list[str]:
    """Cosine of all tokens of all images with the one at a point of the first image.

    Args:
        views: Encoder, images, layers.
        point_xy: Pixels of the first file, as it is on disk.

    Returns:
        A line for each picture, with the mean cosine of every layer.

    Raises:
        ValueError: For unusable images, layers or points; no picture of that image is written.
    """
    encoder, indices = views.encoder, views.indices()
    folder, features_LC, lines = Folder(views.out), [], []
    for number, image in enumerate(views.images(), start=1):
        maps = layer_maps(encoder, image, indices)
        token = None
        if number == 1:
            token = token_at(point_xy, image.native_hw, maps[0].shape[1:])
            features_LC = [each[:, token[0], token[1]] for each in maps]
        pairs = zip(maps, features_LC, strict=True)
        cosines = [similarity_map(each, feature_C) for each, feature_C in pairs]
        panels = [_image_panel(image, token, encoder.patch_size)]
        for layer, cosine_hw in zip(indices, cosines, strict=True):
            panels.append(_heat_panel(cosine_hw, COSINES, image, f"layer {layer}"))
        means = [f"layer {i} {c.mean():+.2f}" for i, c in zip(indices, cosines, strict=True)]
        picture = _with_bar(panels, COSINES, "cosine with the token in the frame")
        name = folder.add(number, image.file.stem, picture)
        lines.append(f"{name}  mean cosine: {', '.join(means)}  {image.file}")
    return folder.close(lines, views.heading)


@torch.no_grad()
def write_text_pictures(
    views: Views, model: nn.Module, prompts: Sequence[str], readout: str = "maskclip"
) -> list[str]:
    """Cosine of every patch with some texts: a heat map for every prompt and layer.

    Cosines of images and texts lie in a narrow band, another one for every tower: colours go from
    the least to the largest of a picture, which the bar says.

    Args:
        views: The vision tower of the model, images, layers.
        model: Of both towers.
        prompts: Texts as they are, without a template.
        readout: One of `text_dense.readouts.READOUTS`.

    Returns:
        A line for each picture: of how many patches each prompt is the nearest, layer by layer.

    Raises:
        ValueError: For unusable images, layers, prompts or read-outs; nothing is written then.
    """
    check_choice("readout", readout, READOUTS)
    if not prompts or len(set(prompts)) < len(prompts):
        raise ValueError(f"prompts {list(prompts)} must be one or more texts, each once")
    parts, indices = token_parts(views.encoder), views.indices()
    device = next(model.parameters()).device
    ids_QL, num_cut = model.tokenize(prompts)
    if num_cut:
        raise ValueError(
            f"{num_cut} of the prompts have more than the {model.text.context_length} tokens of "
            "the text tower; shorten them"
        )
    row_of = {prompt: row for row, prompt in enumerate(prompts)}

    def encode(texts: Sequence[str]) -> torch.Tensor:
        return model.encode_text(ids_QL[[row_of[text] for text in texts]].to(device))

    names_QD = name_vectors(encode, prompts, ["{}"])
    folder, lines = Folder(views.out), []
    for number, image in enumerate(views.images(), start=1):
        streams, grid_hw = parts.streams(image.normalised_3HW[None].to(device))
        panels, shares, found = [_image_panel(image)], [], []
        for layer in indices:
            embedding_BDhw = patch_embeddings(parts, streams, grid_hw, readout, layer)
            found.append(patch_cosines(embedding_BDhw, names_QD)[0].float().cpu().numpy())
            nearest = np.bincount(found[-1].argmax(axis=0).ravel(), minlength=len(prompts))
            words = (f"{p} {n / nearest.sum():.0%}" for p, n in zip(prompts, nearest, strict=True))
            shares.append(f"layer {layer}: {', '.join(words)}")
        limits = _distinct(min(f.min() for f in found), max(f.max() for f in found))
        for layer, cosine_Qhw in zip(indices, found, strict=True):
            for prompt, cosine_hw in zip(prompts, cosine_Qhw, strict=True):
                heading = prompt if len(indices) == 1 else f"{prompt}, layer {layer}"
                panels.append(_heat_panel(cosine_hw, limits, image, heading))
        picture = _with_bar(panels, limits, f"cosine with the text, by {readout}")
        name = folder.add(number, image.file.stem, picture)
        lines.append(f"{name}  nearest text: {'; '.join(shares)}  {image.file}")
    return folder.close(lines, views.heading)


def _distinct(low: float, high: float) -> tuple[float, float]:
    """Ends of a scale of colours, which must differ."""
    return float(low), float(high) if high > low else float(low) + 1e-6


def write_attention_pictures(
    views: Views, point_xy: tuple[float, float] | None = None, each_head: bool = False
) -> list[str]:
    """Attention of the layers asked for, and a table of global tokens over all layers.

    Without a point: what every token receives, in multiples of the uniform share. With a point:
    what the token there attends to, in the same unit. Colours are logarithmic, 1/16 to 16.

    Args:
        views: Encoder (PE tower or timm ViT), images, layers.
        point_xy: Pixels of each file, as it is on disk; None for what is received.
        each_head: With a point, one panel per head beside their mean.

    Returns:
        A line for each picture: layers with global tokens and how many.

    Raises:
        ValueError: For unusable images, layers, points or encoders.
    """
    encoder, indices = views.encoder, views.indices()
    if each_head and point_xy is None:
        raise ValueError("single heads are shown for a point; give --point X Y")
    folder, rows, lines = Folder(views.out), [], []
    for number, image in enumerate(views.images(), start=1):
        device = next(encoder.parameters()).device
        panels_of: dict[int, list[Panel]] = {}
        counts, token = [], None
        for first in range(0, encoder.depth, LAYERS_AT_ONCE):
            some = list(range(first, min(first + LAYERS_AT_ONCE, encoder.depth)))
            found = read_attention(encoder, image.normalised_3HW.to(device), some)
            for layer, attention in zip(some, found, strict=True):
                statistics = token_statistics(attention)
                summary = statistics.summary()
                rows.append({"image": image.file.name, "layer": layer, **summary})
                if summary["num_global"]:
                    counts.append(f"layer {layer}: {summary['num_global']}")
                if layer not in indices:
                    continue
                if point_xy is None:
                    received = attention.grid_of(statistics.received_N).numpy()
                    panels_of[layer] = [_share_panel(received, image, f"layer {layer}")]
                else:
                    token = token_at(point_xy, image.native_hw, attention.grid_hw)
                    panels_of[layer] = _head_panels(attention, token, image, layer, each_head)
        panels = [_image_panel(image, token, encoder.patch_size)]
        for layer in indices:
            panels.extend(panels_of[layer])
        picture = _with_bar(panels, LOG_SHARES, "log2 of weight / uniform weight")
        name = folder.add(number, image.file.stem, picture)
        lines.append(f"{name}  global tokens: {', '.join(counts) or 'none'}  {image.file}")
    folder.write(TABLE, table_text(rows, views.heading).encode())
    return folder.close(lines, views.heading)


def table_text(rows: Sequence[Mapping[str, object]], heading: str) -> str:
    """Token statistics as tab-separated text with the thresholds above them."""
    names = list(rows[0]) if rows else []
    lines = [
        f"# {heading}",
        f"# global: receives >= {MIN_RECEIVED:g} x the uniform share, from >= {MIN_REACH:.0%} of "
        "the queries more than it; patch tokens alone",
        "\t".join(names),
    ]
    for row in rows:
        lines.append(
            "\t".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values())
        )
    return "\n".join(lines) + "\n"


def _head_panels(
    attention: BlockAttention,
    token: tuple[int, int],
    image: EncoderImage,
    layer: int,
    each_head: bool,
) -> list[Panel]:
    number = attention.num_prefix_tokens + token[0] * attention.grid_hw[1] + token[1]
    weights_MN = attention.from_token(number)
    num_keys = attention.tokens_VS.shape[1]
    shares_Mhw = attention.grid_of(weights_MN * num_keys).cpu().numpy()
    panels = [_share_panel(shares_Mhw.mean(axis=0), image, f"layer {layer}")]
    if each_head:
        for head, shares_hw in enumerate(shares_Mhw):
            panels.append(_share_panel(shares_hw, image, f"layer {layer} head {head}"))
    return panels


def _share_panel(shares_hw: np.ndarray, image: EncoderImage, heading: str) -> Panel:
    return _heat_panel(np.log2(np.maximum(shares_hw, 1e-9)), LOG_SHARES, image, heading)


def _heat_panel(
    values_hw: np.ndarray, limits: tuple[float, float], image: EncoderImage, heading: str
) -> Panel:
    return _panel(coloured(values_hw, limits, colour_table(SHARE_COLOURS)), image, heading)


def _panel(rgb_hw3: np.ndarray, image: EncoderImage, heading: str) -> Panel:
    """A grid as large as the image panel; the image has whole patches."""
    height, width = image.pixels_HW3.shape[:2]
    pixels = rgb_hw3.repeat(height // rgb_hw3.shape[0], 0).repeat(width // rgb_hw3.shape[1], 1)
    return Panel(resized(pixels, panel_scale(height, width), is_nearest=True), heading)


def _image_panel(
    image: EncoderImage, token: tuple[int, int] | None = None, patch_size: int = 1
) -> Panel:
    """The image as the encoder sees it, with a frame around the token of the point."""
    height, width = image.pixels_HW3.shape[:2]
    scale = panel_scale(height, width)
    picture = Image.fromarray(resized(image.pixels_HW3, scale))
    if token is not None:
        top, left = (round(i * patch_size * scale) for i in token)
        bottom, right = (round((i + 1) * patch_size * scale) for i in token)
        draw = ImageDraw.Draw(picture)
        draw.rectangle((left - 3, top - 3, right + 2, bottom + 2), None, (0, 0, 0), 3)
        draw.rectangle((left - 1, top - 1, right, bottom), None, (255, 255, 255), 1)
    return Panel(np.asarray(picture), f"{width} x {height} px")


def _with_bar(panels: Sequence[Panel], limits: tuple[float, float], words: str) -> np.ndarray:
    """Panels in rows, the scale of their colours below."""
    rows = [panels[i : i + MAX_IN_ROW] for i in range(0, len(panels), MAX_IN_ROW)]
    picture = stacked([panel_grid(row).picture_HW3 for row in rows])
    right = MARGIN + panels[0].picture_HW3.shape[1]  # the words stand beside the bar
    table = colour_table(SHARE_COLOURS)
    return with_scale_bar(picture, right, table, limits, words, is_signed=True)
