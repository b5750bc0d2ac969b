"""dino_custom.py by its former name, with its former settings whatever the data: 512 px, two images
an iteration, 3,000 iterations.

Data:     as in dino_custom.py.
Command:  python tools/train.py configs/detection/dino_pe_custom.py --cfg-options data_root=DIR
"""

_base_ = ["./dino_custom.py"]
protocol = dict(
    id="custom-detection",
    version=1,
    own_annotations=dict(_delete_=True, train="$data.train_sha256", val="$data.val_sha256"),
)
image_scale, batch_size, max_iters, val_interval = (512, 512), 2, 3000, 500
warmup_iters, lr = 100, 4e-4
holdout_share = 0
