"""Linear segmentation probes of every layer, for your own images: which layer is best.

Paper:    heads as DINOv2 (arXiv:2304.07193); layer by layer as PE (arXiv:2504.13181), but chosen
          on held-out training images.
Data:     as ../segmentation/linear_custom.py; layouts and options: docs/own_data.md
Command:  python tools/train.py configs/probing/segmentation_custom.py --cfg-options data_root=DIR
          python tools/test.py configs/probing/segmentation_custom.py \\
              work_dirs/segmentation_custom --cfg-options data_root=DIR
Cost:     at most 12,000 images seen on a CPU, 320,000 on a GPU, all heads and seeds side by side.
Expected: depends on the data. The printed table has every layer; the chosen one is what the other
          recipes take as layer=N, or layers=[N].
"""

_base_ = ["../_base_/runtime.py", "../_base_/probing.py"]
protocol = dict(
    id="custom-segmentation-probe",
    version=1,
    task="segmentation",
    dataset="$data.name",
    split="val",
    metric="mIoU",
    higher_is_better=True,
    own_annotations=dict(train="$data.train_sha256", val="$data.val_sha256", plan="$plan"),
)

encoder = "pe_spatial_s16_512"
weights = "released"
data_root = None  # --cfg-options data_root=DIR
# Folders and files below data_root; None is found by looking.
images, masks, names_file = None, None, None
unlabelled = None  # labels or names that are no class
classes, num_classes = "$data.classes", "$data.num_classes"
allow_absent_classes = True  # few held-out images show every class
split, split_seed, split_group = None, 0, None  # 0.2 where the folder has no parts of its own
data_facts = "pe_dense.data.checks.own_maps:facts"
data_check = "pe_dense.segmentation.own_data:check_config"
found = "$data.found"
holdout_share = "$data.holdout_share"  # 0.1, as whole clips can meet it
task = "segmentation"
sources, seeds = "all", [0, 1, 2]
lrs, weight_decays = [3e-3, 1e-3, 3e-4], [1e-3]

planned_for = "$data.planned_for"  # cpu or gpu
image_side, batch_size = "$data.image_side", "$data.batch_size"
max_epochs, warmup_iters = "$data.max_epochs", "$data.warmup_iters"
plan = "$planned_for, side $image_side, batch $batch_size, epochs $max_epochs"
num_workers = 1

default_scope = "mmseg"
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.probing", "pe_dense.segmentation"],
    allow_failed_imports=False,
)
model = dict(
    type="LayerProbe",
    backbone=dict(type="DenseBackbone", encoder="$encoder", weights="$weights", norm=False),
    encoder_depth="$encoder.depth",
    sources="$sources",
    task="$task",
    lrs="$lrs",
    weight_decays="$weight_decays",
    seeds="$seeds",
    half_length="$half_length",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=("$image_side", "$image_side"),
        test_cfg=dict(size_divisor="$encoder.patch_size"),
    ),
    task_options=dict(num_classes="$num_classes", average_counted=True),
    test_cfg=dict(mode="whole"),
)
own_set = dict(
    type="OwnLabelMaps",
    data_root="$data_root",
    ann_file="$data.list",
    metainfo=dict(classes="$classes"),
)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(
        type="RandomResize",
        scale=(99_999_999, "$image_side"),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type="RandomCrop", crop_size=("$image_side", "$image_side"), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(99_999_999, "$image_side"), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers="$num_workers",
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="HoldoutSubset",
        part="train",
        share="$holdout_share",
        group="sequence",
        dataset=dict(**own_set, part="train", pipeline=train_pipeline),
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers="$num_workers",
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(
                type="HoldoutSubset",
                part="holdout",
                share="$holdout_share",
                group="sequence",
                dataset=dict(**own_set, part="train", test_mode=True, pipeline=test_pipeline),
            ),
            dict(**own_set, part="val", test_mode=True, pipeline=test_pipeline),
        ],
    ),
)
