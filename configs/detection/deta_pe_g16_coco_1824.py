"""DETA on PE Spatial G, stage 4 of 4: COCO at 1824 px.

Paper:    PE (arXiv:2504.13181, section 5 and table 15), DETA (arXiv:2212.06137).
Data:     as in deta_pe_g16_coco_1728.py.
Command:  torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d \\
              --rdzv-endpoint HOST:29500 --rdzv-id NAME tools/train.py \\
              configs/detection/deta_pe_g16_coco_1824.py --launcher pytorch \\
              --cfg-options load_from=STAGE_3.pth
Cost:     as released 64 GPUs x 1 image, SGD, encoder in bfloat16.
Expected: AP 65.2 on val2017, 66.0 with test-time augmentation (README of DETA_pe, perception_models
          @ 3e352cc); see deta_pe_g16_coco_1824_eval.py and deta_pe_g16_coco_1824_tta.py.

Choice: lr is 5e-5, as the released script has it; table 18 of the paper says 5e-3.
"""

_base_ = ["./deta_pe_g16_coco_1728.py"]
protocol = dict(id="coco-detection-deta-1824")

load_from = "work_dirs/deta_pe_g16_coco_1728/epoch_12.pth"
start_without = []
canvas = 1824
drop_path_rate = 0.0
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr="$lr", momentum=0.9, weight_decay=1e-4)
)
max_epochs, lr_drop = 3, 2
val_interval = 3
