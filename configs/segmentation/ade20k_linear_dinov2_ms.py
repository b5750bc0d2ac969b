"""ADE20K by a linear head on the last four layers, tested at five scales and mirrored (DINOv2).

Paper:    DINOv2 (arXiv:2304.07193, section 7.4, column "+ms"), on mmseg. Short side 640 x 1-3,
          crop 640, slide 640; probabilities averaged over short sides 640 x 1, 1.32, 1.73, 2.28, 3,
          each as it is and mirrored.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/ade20k_linear_dinov2_ms.py --launcher pytorch
          python tools/test.py configs/segmentation/ade20k_linear_dinov2_ms.py \\
              work_dirs/ade20k_linear_dinov2_ms
Cost:     8 GPUs x 2 images, 40,000 iterations; hours not measured. A test costs about 40 times
          that of one scale.
Expected: mIoU 53.1 for DINOv2 L/14, 53.0 for g/14 (reported, DINOv2 paper). PE L/14: none
          published under this protocol.
Choices:  As in ade20k_linear_dinov2.py; of these settings only a file changed for other data was
          found. The step of the windows is half a window, which no source at hand states. 640 is no
          multiple of 14: crops and windows are padded around to 644, as DINOv2 does. Validation
          while training sees one scale.
"""

_base_ = ["./ade20k_linear_dinov2.py"]
protocol = dict(id="ade20k-linear-ms-dinov2")

layers, num_layers = [-4, -3, -2, -1], 4
crop_size = (640, 640)
train_scale, ratio_range = (99_999_999, 640), (1.0, 3.0)
test_scale = (99_999_999, 640)
test_stride = (320, 320)
tta_model = dict(type="DenseSegTTA")
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(
                type="TestTimeAug",
                transforms=[
                    [
                        dict(type="Resize", scale=(99_999_999, side), keep_ratio=True)
                        for side in (640, 844, 1107, 1459, 1920)
                    ],
                    [dict(type="RandomFlip", prob=prob) for prob in (0.0, 1.0)],
                    [dict(type="LoadAnnotations")],
                    [dict(type="PackSegInputs")],
                ],
            ),
        ]
    )
)
