"""DETA on PE Spatial G, stage 3 of 4: COCO at 1728 px.

Paper:    PE (arXiv:2504.13181, section 5 and table 15), DETA (arXiv:2212.06137).
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d \\
              --rdzv-endpoint HOST:29500 --rdzv-id NAME tools/train.py \\
              configs/detection/deta_pe_g16_coco_1728.py --launcher pytorch \\
              --cfg-options load_from=STAGE_2.pth
Cost:     as released 64 GPUs x 1 image, encoder in bfloat16.
Expected: AP 65.1 on val2017, 65.7 with test-time augmentation (README of DETA_pe, history of
          perception_models, commit c271ab9).
"""

_base_ = ["./deta_pe_g16_objects365_1024.py"]
protocol = dict(id="coco-detection-deta-1728", dataset="coco")

load_from = "work_dirs/deta_pe_g16_objects365_1536/epoch_6.pth"
start_without = ["bbox_head.cls_branches."]  # 365 classes there, 80 here
data_root = "data/coco"
dataset_type = "CocoDataset"
train_json, train_images = "annotations/instances_train2017.json", "train2017/"
val_json, val_images = "annotations/instances_val2017.json", "val2017/"
canvas = 1728
amp_dtype = "bfloat16"
drop_path_rate = 0.4
batch_size = 1
processes = 64
lr = 5e-5
max_epochs, lr_drop = 12, 10
val_interval = 12
