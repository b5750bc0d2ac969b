"""COCO, the 5,000 test pictures of Karpathy's split: captions to images and back, plain.

Paper:    CLIP (arXiv:2103.00020); PE (arXiv:2504.13181).
Data:     dataset_coco.json of Karpathy's splits, and val2014 below DIR.
Command:  python tools/test.py configs/retrieval/coco5k.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 5,000 pictures and 25,010 captions.
Expected: not known here; published numbers are re-weighted.
Differs:  float32, not half precision; case and spaces make no other caption; ties count
          against the query; plain scores.

Scores are plain. The same captions share their pictures.
"""

_base_ = ["../_base_/runtime.py", "../_base_/retrieval.py"]
protocol = dict(
    id="coco5k-retrieval",
    version=1,
    task="retrieval",
    dataset="coco",
    split="Karpathy test",
    metric="text_to_image_R@1",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = "data/coco"
captions, style, folder, num_items = "dataset_coco.json", "karpathy", "", 5000
fit, reweight = "squash", None
