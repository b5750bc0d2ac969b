"""SUN RGB-D depth by a head that was trained on NYUv2, as DINOv2 measures transfer.

Paper:    DINOv2 (arXiv:2304.07193, section 7.4, "NYUd -> SUN RGB-D"); scored as
          depth/datasets/sunrgbd.py of zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50.
Data:     SUN RGB-D, with SUNRGBD_val_splits.txt (lines 'image depth') in its folder.
Command:  python tools/test.py configs/depth/sunrgbd_linear4_dinov2.py \\
              work_dirs/nyu_linear4_dinov2
Cost:     5,050 images, twice each; minutes on one GPU.
Expected: RMSE 0.431 / 0.400 / 0.396 / 0.362 for DINOv2 S / B / L / g (reported, DINOv2 paper).
          PE: none published.
Choices:  Images are squashed to 640 rows and 480 columns first, which is what the toolbox makes of
          img_scale=(480, 640) with keep_ratio=False; depth is scored at its own size, in the box
          of NYUv2, and what is beyond 8 m counts as 8 m.
          That step is in the one public copy of DINOv2's config for NYUv2 (ViT-L, DPT), and taken
          to be the same here.
          Otherwise as nyu_linear4_dinov2.py.
"""

_base_ = ["./nyu_linear4_dinov2.py"]
protocol = dict(id="nyu-to-sunrgbd-linear4-dinov2", dataset="sun-rgbd")
evaluation_only = True
trained_with = "nyu_linear4_dinov2.py"

dataset_type = "SUNRGBDDepthDataset"
data_root = "data/sunrgbd"
val_list = "SUNRGBD_val_splits.txt"
test_dataloader = dict(
    batch_size=1,  # cameras differ in size
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="Resize", scale=(480, 640), keep_ratio=False),  # width, height
            dict(type="LoadDepth"),  # after it: the annotation keeps its size
            dict(type="PackDepthInputs"),
        ]
    ),
)
test_evaluator = dict(ceiling=8.0)
