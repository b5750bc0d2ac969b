"""ViTDet Mask R-CNN on PE Core G for LVIS v1, 75 epochs.

Paper:    PE (arXiv:2504.13181, table 14), ViTDet (arXiv:2203.16527).
Data:     LVIS v1 with the images of COCO 2017: python tools/prepare_data.py lvis DIR
Command:  torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d \\
              --rdzv-endpoint HOST:29500 --rdzv-id NAME tools/train.py \\
              configs/detection/vitdet_pe_core_g14_lvis_75ep.py --launcher pytorch
          PE Spatial G: --encoder pe_spatial_g14_448 (the same recipe).
Cost:     as released 64 GPUs x 1 image, float16.
Expected: box AP 51.9, mask AP 47.9 (Core G), 54.2 and 49.3 (Spatial G) (table 14 of the paper).

Choice: the warm-up as in vitdet_pe_core_g14_coco_75ep.py. Step by step:
docs/protocols/vitdet_pe_lvis.md.

Sigmoid loss over 50 sampled classes, images of rare classes repeated, 300 detections per image.
"""

_base_ = ["./vitdet_pe_core_g14_coco_75ep.py"]
protocol = dict(id="lvis-detection-vitdet-g-75ep", dataset="lvis")

dataset_type = "LvisDataset"
train_json, train_images = "annotations/lvis_v1_train.json", ""
val_json, val_images = "annotations/lvis_v1_val.json", ""
score_thr, max_per_img = 0.02, 300
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type="FederatedLoss",
                ann_file="$data_root/$train_json",
                num_sampled=50,
                power=0.5,
            )
        )
    )
)
train_dataloader = dict(
    sampler=dict(_delete_=True, type="RepeatFactorSampler", threshold=0.001),
)
val_evaluator = dict(_delete_=True, type="LvisAP", ann_file="$data_root/$val_json", with_masks=True)
test_evaluator = val_evaluator
val_interval = 30000
