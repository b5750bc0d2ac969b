"""The zero-shot suite: which classes an encoder with a text tower knows by name.

Data:     ImageNet val, v2, A and R, and ObjectNet, their folders given by --data imagenet=DIR
          imagenet-v2=DIR imagenet-a=DIR imagenet-r=DIR objectnet=DIR.
Command:  python tools/benchmark.py --suite zero_shot --encoders pe_core_b16_224 pe_core_l14_336
Cost:     not measured; one encoder pass over 116,000 pictures and 121,000 sentences for each
          encoder: those of ImageNet val and v2 are the same, and their vectors are kept.
"""

kept = dict(results_dir="work_dirs/vectors")  # may be deleted at any time

suite = dict(
    weights="released",
    seeds=1,
    runs=[
        dict(config="configs/zero_shot/imagenet.py", minutes=30, options=kept),
        dict(config="configs/zero_shot/imagenetv2.py", minutes=8, options=kept),
        dict(config="configs/zero_shot/imagenet_a.py", minutes=5, options=kept),
        dict(config="configs/zero_shot/imagenet_r.py", minutes=15, options=kept),
        dict(config="configs/zero_shot/objectnet.py", minutes=10, options=kept),
    ],
)
