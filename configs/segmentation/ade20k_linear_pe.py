"""ADE20K by a linear head on one frozen layer, as Perception Encoder measures it.

Paper:    PE (arXiv:2504.13181, appendix B.3.3; table 6, table 37 for the distilled towers): batch
          norm and a linear layer after DINOv2, one layer, "features are resized to 518x518", AdamW
          with learning rate 1e-3, at the native resolution up to 448.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/ade20k_linear_pe.py --launcher pytorch
          python tools/test.py configs/segmentation/ade20k_linear_pe.py \\
              work_dirs/ade20k_linear_pe
Cost:     8 GPUs x 2 images, 40,000 iterations; hours not measured.
Expected: mIoU 48.1 for PE Spatial L/14, best and last layer (table 37); G/14 48.9 last, 49.3 at
          layer 49 of 50 (table 6; --cfg-options layers=[48]). B/16 44.4, S/16 37.5, T/16 27.6.
Choices:  Unknown and chosen: iterations, batch, augmentation, schedule and weight decay are
          DINOv2's, whom the paper follows. Crops and windows have 32 x 32 tokens, the native 448 px
          of L/14 and G/14. "518x518" is taken as the grid of a 518 px crop of DINOv2: maps are
          resized to 37 x 37 tokens before the norm; literally 518 x 518 features would give the
          same logits but for the batch statistics, as resizing and a 1x1 convolution commute.
          Maps are the blocks' own output: PE reads layers without the final norm. The layer is the
          last and fixed, not the best on val.
"""

_base_ = ["./ade20k_linear_dinov2.py"]
protocol = dict(id="ade20k-linear-pe-last-layer")

encoder = "pe_spatial_l14_448"
norm = False
resize_features = (37, 37)
crop_size = ("$encoder.side_of_32_tokens", "$encoder.side_of_32_tokens")
train_scale = (99_999_999, "$encoder.side_of_32_tokens")
test_scale = (99_999_999, "$encoder.side_of_32_tokens")
test_stride = 2 / 3
