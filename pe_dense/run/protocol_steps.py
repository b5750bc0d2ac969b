"""Which step of a measurement a setting of a config belongs to, read off its place and its name.

The steps are those of docs/protocols, but for 'data' (what is read) and 'test' (sizes and windows
of images that are scored, and how mirrored and scaled copies are combined).
"""

from __future__ import annotations

import re

STEPS = (
    "data", "resize", "crop", "pad", "flip", "colour", "normalise", "features", "head", "loss",
    "optimiser", "schedule", "batch", "precision", "test", "output", "metric", "selection", "other",
)  # fmt: skip

# Transforms and settings of images, by a part of their name.
_OF_IMAGES = (
    ("normalise", r"Normali[sz]|(^|[._])(mean|std|bgr_to_rgb|pixel_mean|pixel_std)\b"),
    ("crop", r"Crop|crop|Cut\b|_cut\b|Rotat"),
    ("flip", r"Flip|flip"),
    ("colour", r"Photo|Colou?r|hue|Hue|Gamma|gamma|Bright|bright|contrast|Distort"),
    ("pad", r"Pad|pad\b|pad_"),
    (
        "resize",
        r"Resize|resize|[Ss]cale|ratio_range|short_side|stretch|antialias|canvas|small_views",
    ),
)
# Names at the top of configs and in their parts; the first that matches a whole name counts.
_BY_NAME = (
    ("precision", r"amp_dtype|network_dtype|grad_checkpointing|compile_blocks"),
    ("selection", r"select_on|selection|holdout_share|report|chosen_on|val_interval"
        r"|checkpoint_interval|save_best"),
    ("batch", r"total_batch|batch_size|processes|accumulation|num_batch_per_epoch|drop_last"
        r"|sampler|seeds"),
    ("schedule", r"max_iters|max_epochs|total_steps|warmup_(iters|steps|end)|lr_drops?|milestones"
        r"|begin|end|trained_with"),
    (
        "optimiser",
        r"lrs?|weight_decays?|layer_decay|backbone_lr_mult|betas|clip_grad|paramwise_cfg",
    ),
    ("normalise", r"pixel_mean|pixel_std"),
    ("loss", r"loss(es)?|.*_loss|mask_ratio|mask_size|teachers"),
    (
        "features",
        r"layers?|norm|frozen|num_layers|listed_depth|resize_features|drop_path_rate|block|pattern"
        r"|global_blocks|layer_scale|core_to_spatial|mask_token|pyramid_scales|strides|roi_strides"
        r"|num_extra_levels|pixels_per_patch|half",
    ),
    ("head", r"dropout_ratio|width|num_queries|num_levels|num_dn_queries|num_bins|sync_bn"
             r"|num_pos_feats|num_classes|start_without"),
    ("test", r"test_.*|val_(?!images|maps|list|json|set|root).*|tta_.*|score_thr|max_per_img"
             r"|max_detections|size_rule|resolution|settings|evaluation_only|training_free"
             r"|quad_scale|tile(_overlap|_merge)?"),
    ("output", r"upsample|min_depth|max_depth"),
    ("metric", r"score_crop|metric|higher_is_better|allow_absent_classes"),
    (
        "data",
        r"data.*|train_.*|val_(images|maps|list|json|set|root)|image_.*|img_.*|depth_folder|seg_.*|classes|tracked_classes|split.*|task"
        r"|sources|style|benchmark|reduce_zero_label|ann_.*|probes?.*|video_root|num_images"
        r"|num_val_images|world_seed|cache_folder",
    ),
)  # fmt: skip


def step_of(path: str) -> str:
    """The step of a setting.

    Args:
        path: Names from the top of the config, entries of lists by their type:
            'train_dataloader.dataset.pipeline[RandomCrop].crop_size'.

    Returns:
        One of `STEPS`; 'other' where neither place nor name says anything.

    Example:
        >>> step_of("weight_decay"), step_of("model.decode_head.losses[SigLoss].weight")
        ('optimiser', 'loss')
        >>> step_of("test_dataloader.dataset.pipeline[Resize].scale")
        'test'
    """
    top = re.split(r"[.\[]", path, maxsplit=1)[0]
    last = re.split(r"[.\[\]]+", path.rstrip("]"))[-1]
    if top in ("test_evaluator", "val_evaluator"):
        return "selection" if _is("selection", last) else "metric"
    if top == "optim_wrapper":
        own = {"accumulative_counts": "batch", "dtype": "precision", "type": "precision"}
        return own.get(path.removeprefix("optim_wrapper."), "optimiser")
    if top in ("param_scheduler", "custom_hooks"):
        return "schedule"
    if top == "train_cfg":
        return "selection" if _is("selection", last) else "schedule"
    if top in ("test_cfg", "val_cfg", "tta_model", "test_pipeline"):
        return "test"
    if top in ("losses", "teachers"):
        return "loss"
    if top in ("test_dataloader", "val_dataloader"):
        return "data" if _names_files(path) else "test"
    if top in ("train_dataloader", "train_pipeline", "train_set"):
        if "pipeline" not in path:
            return "batch" if _is("batch", last) or "sampler" in path else "data"
        return _of_image(path) or "data"
    if top == "model":
        return _of_model(path, last)
    if top == "protocol":
        return (
            "selection" if _is("selection", last) else "metric" if _is("metric", last) else "data"
        )
    return _by_name(last) or _of_image(path) or "other"


def _of_model(path: str, last: str) -> str:
    """A setting inside `model`."""
    if _is("precision", last):
        return "precision"
    if "test_cfg" in path:
        return "test"
    if "preprocessor" in path:
        return _of_image(path) or "data"
    if re.search(r"loss|Loss|assign|match|cost|\.train_cfg\.|teacher|mask_(ratio|size)", path):
        return "loss"
    if re.search(r"\.(min_depth|max_depth|bins_strategy|align_corners)\b", path):
        return "output"
    if re.search(r"\.(backbone|neck|encoder_options)\b", path):
        return "features"
    if re.search(r"head|decoder|transformer|encoder|queries|dn_cfg|with_box|refine", path):
        return "head"
    return _by_name(last) or "head"


def _of_image(path: str) -> str | None:
    return next((step for step, names in _OF_IMAGES if re.search(names, path)), None)


def _by_name(name: str) -> str | None:
    # What prepares images is told by its name, wherever the name stands.
    image = (
        _of_image(name) if not re.match(r"(test|val)_|layer_scale|pyramid|score_", name) else None
    )
    known = next((step for step, names in _BY_NAME if re.fullmatch(names, name)), None)
    return known if known not in (None, "data") or image is None else image


def _is(step: str, name: str) -> bool:
    return any(re.fullmatch(names, name) for known, names in _BY_NAME if known == step)


def _names_files(path: str) -> bool:
    """Whether a setting of a data loader says which files are read, not how."""
    return "pipeline" not in path and "dataset" in path
