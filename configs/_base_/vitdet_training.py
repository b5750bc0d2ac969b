"""How PE trains ViTDet: large-scale jitter, AdamW with layer-wise decay, a schedule by iteration.

Source: perception_models @ 3e352cc, apps/detection (arXiv:2504.13181, table 24), and detectron2 @
02b5c4e: images by Pillow, scale 0.1 to 2, crop of the canvas without padding, boxes recomputed from
polygons; weight decay 0.1 on everything, norms and positions included; float16 and gradients sent
as float16; the warm-up is as released, a share of the run that was fixed before the run was
shortened (90 iterations, not 250). Step by step: docs/protocols/vitdet_pe_coco.md.

Choices, where this differs:
- Boxes with a side under 1 px or an area of 0 are not trained on; detectron2 keeps them until the
  jitter has left less than 1e-5 px.
- Polygons are cut at the border of the image too; there at the canvas alone, which may be larger.
- Masks of proposals under 1 px are drawn as of 1 px; there as of 0.1 px.
- With several images a process, detectron2 puts wide and tall ones into batches of their own; here
  they come as they are drawn. At one image a process, as released, nothing differs.

warmup_end is the iteration behind the first at the full rate.
"""

REQUIRED_vitdet_training = (
    "dataset_type", "data_root", "train_json", "val_json", "train_images", "val_images", "canvas",
    "batch_size", "lr", "layer_decay", "max_iters", "lr_drops", "warmup_end", "val_interval",
    "model",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.detection"], allow_failed_imports=False
)
data_facts = "pe_dense.detection.known_datasets:facts"
classes, num_classes = "$data.classes", "$data.num_classes"
data_check = "pe_dense.detection.known_datasets:check_config"
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers=4,
    drop_last=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="$train_json",
        data_prefix=dict(img="$train_images"),
        filter_cfg=dict(filter_empty_gt=True, filter_only_ignored=True, min_size=1),
        pipeline=[
            dict(type="LoadImage", imdecode_backend="pillow"),
            dict(type="LoadPolygons", with_bbox=True, with_mask=True),
            dict(type="RandomFlip", prob=0.5),
            dict(type="LargeScaleJitter", canvas="$canvas", scales=(0.1, 2.0)),
            dict(type="PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="$val_json",
        data_prefix=dict(img="$val_images"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImage", imdecode_backend="pillow"),
            dict(type="Resize", scale=("$canvas", "$canvas"), keep_ratio=True, backend="pillow"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoAP", ann_file="$data_root/$val_json", with_masks=True)
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="float16",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay=0.1),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(layer_decay="$layer_decay", decay_norm_and_bias=True),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", by_epoch=False, start_factor=0.001, begin=0, end="$warmup_end"),
    dict(type="MultiStepLR", by_epoch=False, end="$max_iters", milestones="$lr_drops", gamma=0.1),
]
