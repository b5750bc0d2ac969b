"""Your own images by names, through a linear map from any encoder's patches to a text tower.

Paper:    none; the protocol of this project. The map is Text-to-Concept's (arXiv:2305.06386) in
          closed form, fitted on pictures without labels and applied to patches.
Data:     as linear_custom.py; layouts and options: docs/own_data.md
Command:  python tools/fit_text_map.py configs/segmentation/text_map_custom.py map.safetensors \\
              --encoder pe_spatial_b16_512 --cfg-options data_root=DIR
          python tools/test.py configs/segmentation/text_map_custom.py \\
              --encoder pe_spatial_b16_512 --cfg-options data_root=DIR map_file=map.safetensors
Cost:     a pass of encoder and tower over the training images, one of the encoder over the scored.
Expected: depends on the data; docs/text_prompts.md says what is known.

What to change first: layer=8 maps another block; text_encoder=pe_core_l14_336 takes other texts;
both need a map of their own. Names and background as in text_custom.py.
"""

_base_ = ["text_custom.py"]
protocol = dict(
    id="custom-segmentation-text-map",
    version=1,
    task="segmentation",
    dataset="$data.name",
    split="val",
    metric="mIoU",
    higher_is_better=True,
    own_annotations=dict(train="$data.train_sha256", val="$data.val_sha256"),
)

encoder = "pe_spatial_b16_512"
weights = "released"
text_encoder = "pe_core_b16_224"
text_weights = "released"
layer = -1
map_file = None  # --cfg-options map_file=FILE
shuffle_seed = None  # of the control on shuffled pairs
readouts, layers = ["map"], ["$layer"]
data_check = "pe_dense.segmentation.text_map_data:check_own"
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
