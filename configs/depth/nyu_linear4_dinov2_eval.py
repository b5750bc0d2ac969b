"""NYUv2 depth by linear bins on four layers of a frozen DINOv2 that DINOv2 released.

Paper:    DINOv2 (arXiv:2304.07193, section 7.4); released depth heads of facebookresearch/dinov2.
Data:     NYUv2 in the layout of BTS: python tools/prepare_data.py nyu DIR
Command:  python tools/convert_weights.py dinov2_vitl14_nyu_linear4_head.pth l14.pth --to ours \\
              --config configs/depth/nyu_linear4_dinov2_eval.py --encoder dinov2_l14
          python tools/test.py configs/depth/nyu_linear4_dinov2_eval.py l14.pth \\
              --encoder dinov2_l14
Cost:     654 images, twice each; minutes on one GPU.
Expected: RMSE 0.417 / 0.362 / 0.333 / 0.298 for DINOv2 S / B / L / g (reported, DINOv2 paper);
          not measured here.
Choices:  Bins reach to 10 m, the range of NYUv2. The config of this head is not public; DINOv2's
          torch.hub entry decodes every linear head with bins to 80 m (hub/depthers.py:65).
"""

_base_ = ["./nyu_linear4_dinov2.py"]
protocol = dict(id="nyu-linear4-dinov2-eval")
evaluation_only = True
