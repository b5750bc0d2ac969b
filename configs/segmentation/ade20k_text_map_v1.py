"""ADE20K by names, through a linear map from an encoder's patches to PE Core's texts.

Paper:    none; the protocol of this project. The map is Text-to-Concept's (arXiv:2305.06386) in
          closed form, fitted on nine tenths of the training images without their labels, and
          applied to patches. One block, nothing is chosen by labels. No background.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  python tools/fit_text_map.py configs/segmentation/ade20k_text_map_v1.py map.safetensors
          python tools/test.py configs/segmentation/ade20k_text_map_v1.py \\
              --cfg-options map_file=map.safetensors
Cost:     not measured yet; both encoders over 18,189 images in windows, then one over 4,021.
Expected: not measured yet.
"""

_base_ = ["ade20k_text_v1.py"]
protocol = dict(
    id="ade20k-text-map",
    version=1,
    task="segmentation",
    dataset="ade20k",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_b16_512"
weights = "released"
text_encoder = "pe_core_b16_224"
text_weights = "released"
layer = -1
map_file = None  # --cfg-options map_file=FILE
shuffle_seed = None  # of the control on shuffled pairs
readouts, layers = ["map"], ["$layer"]
data_check = "pe_dense.segmentation.text_map_data:check_published"
model = dict(
    backbone=dict(
        _delete_=True,
        type="MappedTextBackbone",
        encoder="$encoder",
        weights="$weights",
        text_encoder="$text_encoder",
        texts=dict(type="ImageTextBackbone", encoder="$text_encoder", weights="$text_weights"),
        layer="$layer",
        map_file="$map_file",
        map_rule=dict(
            version=1,
            pairs="mean of features, embedding of the window",
            short_side="$short_side",
            window="$window",
            mode="$test_mode",
            step=0.5,
            held_share=0.2,
        ),
        shuffle_seed="$shuffle_seed",
    ),
)
