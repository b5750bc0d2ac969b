"""The mini world by captions, and captions by its pictures, with the small contrastive towers.

Paper:    retrieval as CLIP (arXiv:2103.00020) scores it: one caption for each picture.
Data:     drawn as it starts and kept in data/mini_named: 512 pictures of 128 px, 20 seconds
Command:  python tools/train.py configs/alignment/contrastive_t16_mini.py
          python tools/test.py configs/retrieval/captions_mini.py \\
              --weights work_dirs/contrastive_t16_mini/iter_900.pth
Cost:     10 seconds on one CPU core, after 9 to 20 minutes of training.
Expected: after max_iters=300 with num_images=3000, R@1 10 to 11 % in either direction; 0.2 % by
          lot and with random weights.
"""

_base_ = ["../_base_/runtime.py", "../_base_/retrieval.py"]
protocol = dict(
    id="mini-retrieval",
    version=1,
    task="retrieval",
    dataset="mini",
    split="val",
    metric="text_to_image_R@1",
    higher_is_better=True,
)

encoder = "pe_core_t16_384"
weights = "random"
data_root = "data/mini_named"
captions, style, folder = "captions.jsonl", "jsonl", "pictures"
fit, reweight = "squash", None
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
        type="MiniCaptionedPictures",
        data_root="$data_root",
        split="val",
        num_images=512,
        world_seed=0,
        image_size="$towers_side",
    )
)
