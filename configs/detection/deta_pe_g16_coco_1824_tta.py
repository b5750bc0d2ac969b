"""Evaluation of DETA on PE Spatial G at 1824 px with test-time augmentation.

Paper:    PE (arXiv:2504.13181, table 15 and table 25).
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  python tools/test.py configs/detection/deta_pe_g16_coco_1824_tta.py \\
              deta_coco_1824pix.pth          (file of hf://facebook/PE-Detection)
Cost:     eight times that of deta_pe_g16_coco_1824_eval.py.
Expected: AP 66.0 on val2017 (README of DETA_pe, perception_models @ 3e352cc; 65.9 with other
          package versions).

Four sizes, each plain and mirrored, 2000 queries, soft-NMS in every view and again over all. The
three smaller views are made from the largest and averaged where they shrink, as torchvision 0.20.1
does, which the reference asks for; before 0.17 it did not average tensors (antialias=False).
"""

_base_ = ["./deta_pe_g16_coco_1824_eval.py"]
protocol = dict(id="coco-detection-deta-1824-tta")

num_queries = 2000
quad_scale = 0.5
antialias = True
small_views_min_side = 64  # px of the original image; for the two smallest views
model = dict(
    test_cfg=dict(
        nms_pre=2000,
        nms=dict(
            _delete_=True,
            type="soft_nms_quad",
            iou_threshold=0.7,
            quad_scale="$quad_scale",
            min_score=1e-3,
        ),
        max_per_img=-1,
    )
)
tta_model = dict(
    type="DETATTAModel",
    tta_cfg=dict(
        nms=dict(type="soft_nms_quad", iou_threshold=0.7, quad_scale="$quad_scale", min_score=1e-3),
        max_per_img=-1,
    ),
)
small_view = dict(antialias="$antialias", min_side="$small_views_min_side")
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage", imdecode_backend="pillow"),
            dict(
                type="TestTimeAug",
                transforms=[
                    [
                        dict(type="DETAResize", canvas="$canvas"),
                        dict(
                            type="DETAResize", canvas="$canvas", view=1728, antialias="$antialias"
                        ),
                        dict(type="DETAResize", canvas="$canvas", view=1536, **small_view),
                        dict(type="DETAResize", canvas="$canvas", view=1344, **small_view),
                    ],
                    [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
                    [
                        dict(
                            type="PackDetInputs",
                            meta_keys=(
                                "img_id",
                                "img_path",
                                "ori_shape",
                                "img_shape",
                                "scale_factor",
                                "flip",
                                "flip_direction",
                                "min_side",
                            ),
                        )
                    ],
                ],
            ),
        ]
    )
)
del small_view
