"""Linear head on four frozen layers of any encoder: segmentation of mini world 2 in a minute.

Paper:    linear head on four layers as DINOv2 (arXiv:2304.07193), with a shorter training.
Data:     python tools/prepare_data.py mini2
Command:  python tools/train.py configs/segmentation/linear_frozen_mini2.py
          python tools/test.py work_dirs/linear_frozen_mini2
Cost:     about two minutes on 2 CPU cores with a ViT-S/14.
Expected: a ViT-S/14 (docs/encoders.md): mIoU 33.3 [30.7, 36.3] pretrained, 7.1 [6.3, 8.0] random,
          2.2 without the picture.
"""

_base_ = ["./linear_pe_t16_mini2.py"]
protocol = dict(id="mini2-segmentation-frozen")

layers, num_layers = "$encoder.four_layers", 4
frozen = True
max_epochs, val_interval = 2, 2
image_scale, crop_size = (224, 224), (224, 224)  # whole patches of 14 and of 16 pixels
