"""Linear depth probes of all 12 layers of PE Spatial T/16 and of the last four together.

Paper:    bins and scale-invariant loss as DINOv2 (arXiv:2304.07193); layer by layer as PE
          (arXiv:2504.13181), but chosen on held-out training images.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/probing/depth_pe_t16_mini.py --weights released
          python tools/test.py configs/probing/depth_pe_t16_mini.py \\
              work_dirs/depth_pe_t16_mini-released
Cost:     10 min of training and 2 min of scoring on 2 CPU cores, for all heads and three seeds.
Expected: RMSE 2.957 (three seeds: 2.948 to 2.965) with random weights, blocks 8 to 11 concatenated.
"""

_base_ = ["../_base_/runtime.py", "../_base_/probing.py", "../_base_/mini_probing.py"]
protocol = dict(
    id="mini-depth-probe",
    version=1,
    task="depth",
    dataset="mini",
    split="val",
    metric="rmse",
    higher_is_better=False,
)

data_root = "data/mini/nyu"
task = "depth"
min_depth, max_depth = 1e-3, 10.0
crop_size = (224, 224)
max_epochs, warmup_iters = 2, 20

default_scope = "mmseg"
data_check = "pe_dense.depth.depth_check:check_config"
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.probing", "pe_dense.depth"],
    allow_failed_imports=False,
)
model = dict(
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # depth that is not annotated
        size="$crop_size",
        test_cfg=dict(size_divisor="$encoder.patch_size"),
    ),
    task_options=dict(
        min_depth="$min_depth",
        max_depth="$max_depth",
        num_bins=64,
        upsample=1,  # DINOv2: 4, with a gradient loss of 0.5; both are slow on a CPU
        gradient_weight=0.0,
        warm_up_steps=20,
    ),
)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadDepth"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="DepthRandomCrop", crop_size="$crop_size"),
    dict(type="PackDepthInputs"),
]
test_pipeline = [dict(type="LoadImage"), dict(type="LoadDepth"), dict(type="PackDepthInputs")]
train_set = dict(
    type="DepthDataset",
    data_root="$data_root",
    ann_file="nyu_train.txt",
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
            dict(
                type="DepthDataset",
                data_root="$data_root",
                ann_file="nyu_test.txt",
                test_mode=True,
                pipeline=test_pipeline,
            ),
        ],
    ),
)
