"""ADE20K by a linear head on the frozen last layer, as RADIO measures it: 80,000 iterations.

Paper:    AM-RADIO (arXiv:2312.06709) and its mmseg config (NVlabs/RADIO @ c0f3701, mmseg 1.2.1): no
          weight decay, short side 512 x 0.5-2 with a long side of at most 2,048 x, crops of 512,
          whole images at test. Both are padded in black at the right and bottom to whole patches,
          and the test image is stretched back with its padding.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/ade20k_linear_radio.py --launcher pytorch
          python tools/test.py configs/segmentation/ade20k_linear_radio.py \\
              work_dirs/ade20k_linear_radio
Cost:     8 GPUs x 2 images, 80,000 iterations; hours not measured.
Expected: mIoU 51.58 for RADIOv2.5-H, 55.20 for C-RADIOv4-H (reported at second hand,
          arXiv:2601.17237). PE B/16: none published under this protocol.
Choices:  The released config is that of RADIO with a patch of 14; for 16 (RADIOv2.5, C-RADIO) none
          is released, and the same rule has nothing to pad in crops. Mean and std are the encoder's
          own; the final norm is used where there is one. Areas are summed in whole numbers. Step
          by step: docs/protocols/segmentation_radio.md.
"""

_base_ = ["./ade20k_linear_dinov2.py"]
protocol = dict(id="ade20k-linear-radio")

encoder = "pe_spatial_b16_512"
crop_size = (512, 512)
padded_size = ("$encoder.side_over_512", "$encoder.side_over_512")
train_scale = (2048, 512)
test_scale = (2048, 512)
test_mode, test_divisor = "whole", "$encoder.patch_size"
max_iters, warmup_iters = 80_000, 1500  # a shorter trial needs a shorter warm-up
weight_decay = 0.0
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadAnnotations"),
            dict(
                type="RandomResize",
                scale="$train_scale",
                ratio_range="$ratio_range",
                keep_ratio=True,
            ),
            dict(type="RandomCrop", crop_size="$crop_size", cat_max_ratio=0.75),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PhotoMetricDistortion"),
            dict(type="Pad", size="$padded_size", pad_val=dict(img=0, seg=255)),
            dict(type="PackSegInputs"),
        ]
    )
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="Resize", scale="$test_scale", keep_ratio=True),
            dict(type="Pad", size_divisor="$test_divisor"),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ]
    )
)
test_dataloader = val_dataloader
model = dict(data_preprocessor=dict(size="$padded_size"))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(
        type="PolyLR",
        power=1.0,
        eta_min=0.0,
        by_epoch=False,
        begin="$warmup_iters",
        end="$max_iters",
    ),
]
