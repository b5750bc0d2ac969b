"""KITTI depth by a DPT head of a frozen DINOv2 that DINOv2 released.

Paper:    DINOv2 (arXiv:2304.07193, section 7.4); released depth heads of facebookresearch/dinov2.
Data:     KITTI, Eigen split: python tools/prepare_data.py kitti DIR
Command:  python tools/convert_weights.py dinov2_vitl14_kitti_dpt_head.pth l14.pth --to ours \\
              --config configs/depth/kitti_dpt_dinov2_eval.py --encoder dinov2_l14
          python tools/test.py configs/depth/kitti_dpt_dinov2_eval.py l14.pth \\
              --encoder dinov2_l14
Cost:     652 images, twice each; minutes on one GPU.
Expected: RMSE 2.34 / 2.23 / 2.14 / 2.11 for DINOv2 S / B / L / g (reported, DINOv2 paper);
          not measured here.
"""

_base_ = ["./kitti_dpt_dinov2.py"]
protocol = dict(id="kitti-dpt-dinov2-eval")
evaluation_only = True
