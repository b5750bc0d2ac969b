"""ADE20K by a linear head on one frozen layer, as Perception Encoder measures it.

Paper:    PE (arXiv:2504.13181, appendix B.3.3; table 6, table 37 for the distilled towers): batch
          norm and a linear layer after DINOv2, one layer, "features are resized to 518x518", AdamW
          with learning rate 1e-3, at the native resolution up to 448: 448 px here, 32 x 32 tokens
          of patch 14 and 28 x 28 of patch 16.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/ade20k_linear_pe.py --launcher pytorch
          python tools/test.py configs/segmentation/ade20k_linear_pe.py \\
              work_dirs/ade20k_linear_pe
Cost:     8 GPUs x 2 images, 40,000 iterations; hours not measured.
Expected: mIoU of the last layer 48.1 for PE Spatial L/14, 48.9 for G/14 (49.3 at layer 49 of 50:
          --cfg-options layers=[48]), 44.4 for B/16, 37.5 for S/16, 27.6 for T/16 (reported, PE
          paper, tables 6 and 37).
Choices:  Unknown and chosen: iterations, batch, augmentation, schedule and weight decay are
          DINOv2's, whom the paper follows; crops and windows are 448 px, step two thirds. The paper
          takes the native resolution (512 for B, S and T) only up to 448 (though it prints 512 for
          SigLIP 2), and for an encoder below 448 the better of the two; here it is 448 for all.
          "518x518" is taken as the grid of DINOv2's windows, 518 px with their padding: maps are
          resized to 37 x 37 tokens before the norm; literally 518 x 518 features would give the
          same logits but for the batch statistics, as resizing and a 1x1 convolution commute.
          Maps are the blocks' own output.
          The layer is the last and fixed; the paper's best layer is chosen on val. Step by step:
          docs/protocols/segmentation_pe.md.
"""

_base_ = ["./ade20k_linear_dinov2.py"]
protocol = dict(id="ade20k-linear-pe-last-layer")

encoder = "pe_spatial_l14_448"
norm = False
resize_features = (37, 37)
crop_size = (448, 448)
train_scale, test_scale = (99_999_999, 448), (99_999_999, 448)
test_stride = 2 / 3
