"""NYUv2 depth by a DPT head of a frozen DINOv2 that DINOv2 released.

Paper:    DINOv2 (arXiv:2304.07193, section 7.4); released depth heads of facebookresearch/dinov2.
Data:     NYUv2 in the layout of BTS: python tools/prepare_data.py nyu DIR
Command:  python tools/convert_weights.py dinov2_vitl14_nyu_dpt_head.pth l14.pth --to ours \\
              --config configs/depth/nyu_dpt_dinov2_eval.py --encoder dinov2_l14
          python tools/test.py configs/depth/nyu_dpt_dinov2_eval.py l14.pth \\
              --encoder dinov2_l14
Cost:     654 images, twice each; minutes on one GPU.
Expected: RMSE 0.356 / 0.317 / 0.293 / 0.279 for DINOv2 S / B / L / g (reported, DINOv2 paper);
          not measured here.
"""

_base_ = ["./nyu_dpt_dinov2.py"]
protocol = dict(id="nyu-dpt-dinov2-eval")
evaluation_only = True
