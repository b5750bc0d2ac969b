"""Linear probes of every layer of the small contrastive towers: the colour of the ground.

Paper:    heads as DINOv2 (arXiv:2304.07193) on whole pictures; no paper has this task.
Data:     drawn as it starts and kept in data/mini_named: 1,024 and 512 pictures of 128 px, a minute
Command:  python tools/train.py configs/classification/ground_linear_mini.py
          python tools/test.py configs/classification/ground_linear_mini.py \\
              work_dirs/ground_linear_mini
Cost:     a minute on one CPU core, of which the encoder has half.
Expected: top-1 60.2 % with weights of max_iters=300, 43.3 % with random ones, 16.8 % for always the
          most frequent colour; means of three seeds.

Version 1 ended at a rate of 0.3, which the random tower chose.

--weights FILE takes a checkpoint of configs/alignment/contrastive_t16_mini.py.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/probing.py",
    "../_base_/classification.py",
    "../_base_/classification_linear.py",
]
protocol = dict(
    id="mini-linear-ground",
    version=2,
    task="classification",
    dataset="mini",
    split="val",
    metric="top1",
    higher_is_better=True,
)

encoder = "pe_core_t16_384"
weights = "random"
data_root = "data/mini_named"
train_folder, val_folder = "", ""
num_classes = 11
readout, norm = "mean", "none"
sources, seeds = "all", [0, 1, 2]
lrs, weight_decays = [10, 3, 1, 0.3, 0.1, 3e-2, 1e-2], [1e-2]
batch_size, max_epochs, warmup_iters = 128, 60, 20
allow_absent_classes = True  # rare colours
embed_dim, depth, num_heads, mlp_hidden, towers_side = 96, 10, 3, 384, 128
custom_imports = dict(
    imports=[
        "pe_dense.run.resume",
        "pe_dense.alignment.contrastive_backbone",
        "pe_dense.probing.classification",
        "pe_dense.zero_shot",
    ]
)
small_towers = dict(
    type="ContrastiveBackbone",
    encoder="$encoder",
    weights="$weights",
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
train_set = dict(
    type="MiniNamedPictures",
    data_root="$data_root",
    split="train",
    num_images=1024,
    world_seed=0,
    image_size="$towers_side",
    templates=["{}"],
)
val_set = dict(
    type="MiniNamedPictures",
    data_root="$data_root",
    split="val",
    num_images=512,
    world_seed=0,
    image_size="$towers_side",
    templates=["{}"],
)
model = dict(encoder_depth="$depth", backbone=dict(_delete_=True, **small_towers))
train_dataloader = dict(
    dataset=dict(dataset=dict(_delete_=True, type="ClassImages", images=train_set))
)
test_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type="HoldoutSubset",
                part="holdout",
                share="$holdout_share",
                group="$held_together",
                dataset=dict(type="ClassImages", images=train_set),
            ),
            dict(type="ClassImages", images=val_set),
        ]
    )
)
test_evaluator = dict(type="ClassProbeMetric", encoder_depth="$depth")
default_hooks = dict(checkpoint=dict(interval="$checkpoint_interval"))  # and the last
checkpoint_interval = 10
