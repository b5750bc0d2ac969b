"""The mini world by names, through a linear map from PE T/16 to the small contrastive towers.

Paper:    none; Text-to-Concept's map (arXiv:2305.06386) in closed form, applied to patches.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/alignment/contrastive_t16_mini.py
          python tools/fit_text_map.py configs/segmentation/text_map_mini.py map.safetensors
          python tools/test.py configs/segmentation/text_map_mini.py \\
              --cfg-options map_file=map.safetensors
Cost:     a few minutes on one CPU core, after 9 to 20 minutes of training.
Expected: see docs/text_prompts.md; with towers of 300 iterations no better than without a picture.
"""

_base_ = ["text_mini.py"]
protocol = dict(
    id="mini-segmentation-text-map",
    version=1,
    task="segmentation",
    dataset="mini",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_t16_512"
weights = "random"
text_encoder = "pe_core_t16_384"
text_weights = "work_dirs/contrastive_t16_mini/iter_900.pth"
short_side, window, test_mode = 256, (128, 128), "slide"  # windows as the tower was trained
layer = -1
map_file = None  # --cfg-options map_file=FILE
shuffle_seed = None  # of the control on shuffled pairs
readouts, layers = ["map"], ["$layer"]
data_check = "pe_dense.segmentation.text_map_data:check_maps"
model = dict(
    backbone=dict(
        _delete_=True,
        type="MappedTextBackbone",
        encoder="$encoder",
        weights="$weights",
        text_encoder="$text_encoder",
        texts=dict(
            type="ContrastiveBackbone",
            encoder="$text_encoder",
            weights="$text_weights",
            encoder_options=dict(
                patch_size=16,
                embed_dim="$embed_dim",
                depth="$depth",
                num_heads="$num_heads",
                mlp_hidden="$mlp_hidden",
                image_size="$towers_side",
                pool_heads="$num_heads",
                output_dim="$embed_dim",
            ),
            text=dict(embed_dim=64, depth=2, num_heads=2),
        ),
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
