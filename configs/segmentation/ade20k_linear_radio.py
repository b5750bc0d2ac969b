"""ADE20K by a linear head on the frozen last layer, as RADIO measures it: 80,000 iterations.

Paper:    AM-RADIO (arXiv:2312.06709) and its mmseg config (NVlabs/RADIO, mmseg 1.2.1): no weight
          decay, short side 512 x 0.5-2 with a long side of at most 2,048 x, whole images at test,
          padded to the patch.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/ade20k_linear_radio.py --launcher pytorch
          python tools/test.py configs/segmentation/ade20k_linear_radio.py \\
              work_dirs/ade20k_linear_radio
Cost:     8 GPUs x 2 images, 80,000 iterations; hours not measured.
Expected: mIoU 51.58 for RADIOv2.5-H, 55.20 for C-RADIOv4-H (reported at second hand,
          arXiv:2601.17237). PE B/16: none published under this protocol.
Choices:  Crops are 512 px for a patch of 16; for one of 14 set crop_size=(518,518), as RADIO does
          (these are runs of a protocol of their own). The final norm is used where there is one.
"""

_base_ = ["./ade20k_linear_dinov2.py"]
protocol = dict(id="ade20k-linear-radio")

encoder = "pe_spatial_b16_512"
crop_size = (512, 512)
train_scale = (2048, 512)
test_scale = (2048, 512)
test_mode, test_divisor = "whole", "$encoder.patch_size"
max_iters = 80_000
weight_decay = 0.0
