"""ADE20K by a linear head on the frozen last layer, as EUPE measures it: DINOv3's, in one process.

Paper:    EUPE (arXiv:2603.22387, table 1; facebookresearch/EUPE @ f6cdf04). Its evaluation is
          DINOv3's code and released config, with 16 images in one process for 2 in each of 8.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  python tools/train.py configs/segmentation/ade20k_linear_eupe.py
          python tools/test.py configs/segmentation/ade20k_linear_eupe.py \\
              work_dirs/ade20k_linear_eupe
Cost:     1 GPU x 16 images, 40,000 iterations, float32; hours not measured.
Expected: mIoU 52.4 for EUPE B/16, 45.5 for PE Spatial B/16 (reported, EUPE paper, table 1). Three
          of its baselines are DINOv3's numbers, digit for digit.
Choices:  Those of ade20k_linear_dinov3.py: mean and std are the encoder's own; patches of another
          side than 16 have crops of 32 tokens and windows that step by two thirds; hue is turned by
          OpenCV's arithmetic; epochs follow each other without the incomplete batch that is dropped
          there; areas are summed in whole numbers; the last model, where the released code keeps
          the best of eight evaluations on val. Step by step: docs/protocols/segmentation_eupe.md.
"""

_base_ = ["./ade20k_linear_dinov3.py"]
protocol = dict(id="ade20k-linear-eupe")

encoder = "eupe_b16"
batch_size = 16
processes = 1
