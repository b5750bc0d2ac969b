"""DINO on PE Spatial T/16 for blood cells (BCCD, 205 training images), from random weights.

Paper:    DINO (arXiv:2203.03605) on PE Spatial (arXiv:2504.13181).
Data:     BCCD as COCO JSON, 640x480, classes RBC, WBC, Platelets; data_root is any folder with
          images/ and annotations/{train,val}.json.
Command:  python tools/train.py configs/detection/dino_pe_t16_bccd.py --cfg-options data_root=DIR
          python tools/test.py configs/detection/dino_pe_t16_bccd.py work_dirs/dino_pe_t16_bccd \\
              --cfg-options data_root=DIR
Cost:     about 30 min on 2 CPU cores (1 GB of memory), a few minutes on a GPU.
Expected: AP 0.517, AP50 0.799 on val (benchmarks/records; one seed, so allow +-0.02).
"""

_base_ = ["../_base_/runtime.py", "../_base_/dino_small.py"]
custom_imports = dict(
    imports=["pe_dense.runtime", "pe_dense.detection"], allow_failed_imports=False
)
data_check = "pe_dense.detection.coco_check:check_config"
protocol = dict(
    id="bccd-detection-scratch",
    version=1,
    task="detection",
    dataset="bccd",
    split="val",
    metric="AP",
    higher_is_better=True,
    # Another val.json is another protocol; the numbers published here are for this one.
    annotations_sha256="5e32c539c7101a0d0c3f674863dc624df3b44017f632a234def9747d3ec9cd9a",
)

encoder = "pe_spatial_t16_512"
weights = "random"
data_root = "data/bccd"
classes = ["RBC", "WBC", "Platelets"]
num_classes = 3
max_epochs = 32
batch_size = 2
lr = 4e-4
# From random weights the encoder wants a smaller step than the new layers, the same for every
# block; from released weights use backbone_lr_mult=1.0 layer_decay=0.8 lr=1e-4.
backbone_lr_mult, layer_decay = 0.25, 1.0
image_scale = (320, 240)
train_scales = [(256, 192), (288, 216), (320, 240)]
flip_prob, flip_direction = [0.4, 0.4], ["horizontal", "vertical"]
train_images, val_images = "images/", "images/"
val_interval = 8

dataset_type = "CocoDataset"
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="annotations/train.json",
        data_prefix=dict(img="$train_images"),
        metainfo=dict(classes="$classes"),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="RandomFlip", prob="$flip_prob", direction="$flip_direction"),
            dict(
                type="RandomChoiceResize",
                resize_type="Resize",
                scales="$train_scales",
                keep_ratio=True,
            ),
            dict(type="PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size="$batch_size",
    num_workers=1,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="annotations/val.json",
        data_prefix=dict(img="$val_images"),
        metainfo=dict(classes="$classes"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="Resize", scale="$image_scale", keep_ratio=True),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoAP", ann_file="$data_root/annotations/val.json")
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(
        layer_decay="$layer_decay",
        custom_keys={"backbone.": dict(lr_mult="$backbone_lr_mult")},
    ),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs="$max_epochs", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end="$max_epochs",
        T_max="$max_epochs",
        convert_to_iter_based=True,
    ),
]
