"""Linear segmentation probes of all 12 layers of PE Spatial T/16 and of the last four together.

Paper:    heads as DINOv2 (arXiv:2304.07193); layer by layer as PE (arXiv:2504.13181), but chosen
          on held-out training images.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/probing/segmentation_pe_t16_mini.py --weights released
          python tools/test.py configs/probing/segmentation_pe_t16_mini.py \\
              work_dirs/segmentation_pe_t16_mini-released
Cost:     10 min of training and 2 min of scoring on 2 CPU cores, for all heads and three seeds.
Expected: mIoU 0.091 (three seeds: 0.091 to 0.092) with random weights, blocks 8 to 11 concatenated.
"""

_base_ = ["../_base_/runtime.py", "../_base_/probing.py", "../_base_/mini_probing.py"]
protocol = dict(
    id="mini-segmentation-probe",
    version=1,
    task="segmentation",
    dataset="mini",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

data_root = "data/mini/ade"
classes = ["sky", "wall", "ground", "path", "disc", "box", "triangle", "star", "ring", "cross"]
num_classes = 10
task = "segmentation"
image_scale, crop_size = (256, 256), (256, 256)
max_epochs, warmup_iters = 3, 20

default_scope = "mmseg"
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.probing"], allow_failed_imports=False
)
data_check = "pe_dense.segmentation.map_check:check_config"
model = dict(
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size="$crop_size",
        test_cfg=dict(size_divisor="$encoder.patch_size"),
    ),
    task_options=dict(num_classes="$num_classes"),
)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale="$image_scale", ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size="$crop_size", cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale="$image_scale", keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_set = dict(
    type="BaseSegDataset",
    data_root="$data_root",
    data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
    metainfo=dict(classes="$classes"),
    reduce_zero_label=True,
)
val_set = dict(
    type="BaseSegDataset",
    data_root="$data_root",
    data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
    metainfo=dict(classes="$classes"),
    reduce_zero_label=True,
    test_mode=True,
    pipeline=test_pipeline,
)
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers=1,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="HoldoutSubset",
        part="train",
        share="$holdout_share",
        dataset=dict(**train_set, pipeline=train_pipeline),
    ),
)
test_dataloader = dict(
    batch_size="$batch_size",
    num_workers=1,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(
                type="HoldoutSubset",
                part="holdout",
                share="$holdout_share",
                dataset=dict(**train_set, test_mode=True, pipeline=test_pipeline),
            ),
            val_set,
        ],
    ),
)
