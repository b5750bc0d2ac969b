"""Cityscapes by a linear head on the frozen last layer, as DINOv3 measures ADE20K.

Paper:    DINOv3 (arXiv:2508.10104, section 6.1, table 3).
Data:     Cityscapes with labelTrainIds: python tools/prepare_data.py cityscapes DIR --train-ids
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/cityscapes_linear_dinov3.py --launcher pytorch
          python tools/test.py configs/segmentation/cityscapes_linear_dinov3.py \\
              work_dirs/cityscapes_linear_dinov3
Cost:     8 GPUs x 2 images, 40,000 iterations, float32; hours not measured.
Expected: mIoU 73.2 for PE Spatial G/14, 81.1 for DINOv3 7B/16 (reported, DINOv3 paper, table 3).
Choices:  As in ade20k_linear_dinov3.py; the released code reads ADE20K only. The paper fixes the
          tokens of a crop but not the scale of the street. Here the short side is two crops (64
          tokens: 1,024 px, the images' own size, for patch 16; 896 for 14), because at one crop
          a pole is thinner than a patch.
"""

_base_ = ["./ade20k_linear_dinov3.py"]
protocol = dict(id="cityscapes-linear-dinov3", dataset="cityscapes")

data_root = "data/cityscapes"
dataset_type = "CityscapesDataset"
img_suffix, seg_map_suffix = "_leftImg8bit.png", "_gtFine_labelTrainIds.png"
reduce_zero_label = False
train_images, train_maps = "leftImg8bit/train", "gtFine/train"
val_images, val_maps = "leftImg8bit/val", "gtFine/val"
train_scale = (99_999_999, "$encoder.side_of_64_tokens")
test_scale = (99_999_999, "$encoder.side_of_64_tokens")
