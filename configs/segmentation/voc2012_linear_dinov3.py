"""PASCAL VOC 2012 by a linear head on the frozen last layer, as DINOv3 measures ADE20K.

Paper:    DINOv3 (arXiv:2508.10104, section 6.1, table 3).
Data:     VOC 2012 with the labels of SBD: python tools/prepare_data.py voc DIR --aug SBD_DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/voc2012_linear_dinov3.py --launcher pytorch
          python tools/test.py configs/segmentation/voc2012_linear_dinov3.py \\
              work_dirs/voc2012_linear_dinov3
Cost:     8 GPUs x 2 images, 40,000 iterations, float32; hours not measured.
Expected: mIoU 82.7 for PE Spatial G/14, 86.6 for DINOv3 7B/16 (reported, DINOv3 paper, table 3).
Choices:  As in ade20k_linear_dinov3.py. Trained on the 10,582 images of the augmented set, which
          is the habit of the field; the paper does not say whether on these or on the 1,464 of VOC.
          The released code reads ADE20K only, so that what differs for VOC is not known.
"""

_base_ = ["./ade20k_linear_dinov3.py"]
protocol = dict(id="voc2012-linear-dinov3", dataset="voc2012")

data_root = "data/voc/VOC2012"
dataset_type = "PascalVOCDataset"
reduce_zero_label = False
train_images, train_maps = "JPEGImages", "SegmentationClassAug"
train_list = "ImageSets/Segmentation/trainaug.txt"
val_images, val_maps = "JPEGImages", "SegmentationClass"
val_list = "ImageSets/Segmentation/val.txt"
