"""The retrieval suite: pictures by captions and captions by pictures, plain and re-weighted.

Data:     COCO with dataset_coco.json and Flickr30k with dataset_flickr30k.json, their folders given
          by --data coco=DIR flickr30k=DIR.
Command:  python tools/benchmark.py --suite retrieval --encoders pe_core_b16_224 pe_core_l14_336
Cost:     not measured; one encoder pass over 6,000 pictures and 30,000 captions for each encoder:
          plain and re-weighted scores are of the same vectors, which are kept.
"""

kept = dict(results_dir="work_dirs/vectors")  # may be deleted at any time

suite = dict(
    weights="released",
    seeds=1,
    runs=[
        dict(config="configs/retrieval/coco5k.py", minutes=6, options=kept),
        dict(config="configs/retrieval/coco5k_reweighted.py", minutes=6, options=kept),
        dict(config="configs/retrieval/flickr30k.py", minutes=2, options=kept),
        dict(config="configs/retrieval/flickr30k_reweighted.py", minutes=2, options=kept),
    ],
)
