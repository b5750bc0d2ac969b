"""Pictures of the mini world by the colour of their ground, with the small contrastive towers.

Paper:    none; whether towers that learned from captions know a part of them alone.
Data:     drawn as it starts and kept in data/mini_named: 512 pictures of 128 px, 20 seconds
Command:  python tools/train.py configs/alignment/contrastive_t16_mini.py
          python tools/test.py configs/zero_shot/ground_mini.py \\
              --weights work_dirs/contrastive_t16_mini/iter_900.pth
Cost:     10 seconds on one CPU core, after 9 to 20 minutes of training.
Expected: not measured yet.
"""

_base_ = ["../_base_/runtime.py", "../_base_/zero_shot.py"]
protocol = dict(
    id="mini-zero-shot-ground",
    version=1,
    task="zero_shot",
    dataset="mini",
    split="val",
    metric="top1",
    higher_is_better=True,
)

encoder = "pe_core_t16_384"
weights = "random"
data_root = "data/mini_named"
folder, names, num_classes = "", "words", None
templates = ["{} ground"]
fit = "squash"
embed_dim, depth, num_heads, mlp_hidden, towers_side = 96, 10, 3, 384, 128
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.alignment.contrastive_backbone", "pe_dense.zero_shot"]
)
model = dict(
    backbone=dict(
        type="ContrastiveBackbone",
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
    )
)
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="MiniNamedPictures",
        data_root="$data_root",
        split="val",
        num_images=512,
        world_seed=0,
        image_size="$towers_side",
        names="$names",
        templates="$templates",
    )
)
