"""DETA on PE Spatial G, stage 2 of 4: Objects365 at 1536 px.

Paper:    PE (arXiv:2504.13181, section 5 and table 15), DETA (arXiv:2212.06137).
Data:     as in deta_pe_g16_objects365_1024.py.
Command:  torchrun --nnodes 16 --nproc-per-node 8 --rdzv-backend c10d \\
              --rdzv-endpoint HOST:29500 --rdzv-id NAME tools/train.py \\
              configs/detection/deta_pe_g16_objects365_1536.py --launcher pytorch \\
              --cfg-options load_from=STAGE_1.pth
Cost:     as released 128 GPUs x 1 image.
Expected: not published for this stage.

The class branches, objectness included, start anew although the classes are the same: the released
scripts do not pass the option that would keep them. start_without=[] keeps them.
"""

_base_ = ["./deta_pe_g16_objects365_1024.py"]
protocol = dict(id="objects365-detection-deta-1536")

load_from = "work_dirs/deta_pe_g16_objects365_1024/epoch_12.pth"
start_without = ["bbox_head.cls_branches."]
canvas = 1536
batch_size = 1
lr = 5e-5
max_epochs, lr_drop = 6, 4
val_interval = 6
