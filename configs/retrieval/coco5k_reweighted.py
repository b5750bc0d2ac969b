"""COCO, the 5,000 test pictures of Karpathy's split: captions to images and back, re-weighted.

Paper:    CLIP (arXiv:2103.00020); PE (arXiv:2504.13181).
Data:     dataset_coco.json of Karpathy's splits, and val2014 below DIR.
Command:  python tools/test.py configs/retrieval/coco5k_reweighted.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 5,000 pictures and 25,010 captions.
Expected: text to image R@1 33.0, 42.6, 50.9, 57.1, 58.1 of T16, S16, B16, L14, G14, re-weighted
          (README of perception_models @ 3e352cc).
Differs:  float32, not half precision; case and spaces make no other caption; ties count
          against the query.

Scores are re-weighted by a softmax over all queries of the test set, as PE's published ones: they
see all queries at once, as no search does. The same captions share their pictures.
"""

_base_ = "coco5k.py"
protocol = dict(id="coco5k-retrieval-reweighted")
reweight = 1.0
