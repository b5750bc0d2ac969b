"""SUN RGB-D depth by a head that was trained on NYUv2, as DINOv2 measures transfer.

Paper:    DINOv2 (arXiv:2304.07193, section 7.4, "NYUd -> SUN RGB-D").
Data:     SUN RGB-D, with SUNRGBD_val_splits.txt (lines 'image depth') in its folder.
Command:  python tools/test.py configs/depth/sunrgbd_linear1_dinov2.py \\
              work_dirs/nyu_linear1_dinov2
Cost:     5,050 images, twice each; minutes on one GPU.
Expected: RMSE 0.477 / 0.448 / 0.429 / 0.402 for DINOv2 S / B / L / g (reported, DINOv2 paper).
          PE: none published.
Choices:  Whole images are scored, 1 mm to 10 m; the paper does not state a crop. Images go in at
          their own size; copies of DINOv2's DPT config resize them to img_scale (480, 640)
          first, of which the width cannot be told without its code.
"""

_base_ = ["./nyu_linear1_dinov2.py"]
protocol = dict(id="nyu-to-sunrgbd-linear1-dinov2", dataset="sun-rgbd")
evaluation_only = True
trained_with = "nyu_linear1_dinov2.py"

dataset_type = "SUNRGBDDepthDataset"
data_root = "data/sunrgbd"
val_list = "SUNRGBD_val_splits.txt"
score_crop = None
test_dataloader = dict(batch_size=1)  # cameras differ in size
