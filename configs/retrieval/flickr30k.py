"""Flickr30k, the 1,000 test pictures of Karpathy's split: captions to images and back, plain.

Paper:    CLIP (arXiv:2103.00020); PE (arXiv:2504.13181).
Data:     dataset_flickr30k.json of Karpathy's splits, and flickr30k-images below DIR.
Command:  python tools/test.py configs/retrieval/flickr30k.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 1,000 pictures and 5,000 captions.
Expected: not known here; published numbers are re-weighted.
Differs:  float32, not half precision; case and spaces make no other caption; ties count
          against the query; plain scores.

Scores are plain. The same captions share their pictures.
"""

_base_ = ["../_base_/runtime.py", "../_base_/retrieval.py"]
protocol = dict(
    id="flickr30k-retrieval",
    version=1,
    task="retrieval",
    dataset="flickr30k",
    split="Karpathy test",
    metric="text_to_image_R@1",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = "data/flickr30k"
captions, style, folder, num_items = "dataset_flickr30k.json", "karpathy", "flickr30k-images", 1000
fit, reweight = "squash", None
