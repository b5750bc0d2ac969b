"""Flickr30k, the 1,000 test pictures of Karpathy's split: captions to images and back, re-weighted.

Paper:    CLIP (arXiv:2103.00020); PE (arXiv:2504.13181).
Data:     dataset_flickr30k.json of Karpathy's splits, and flickr30k-images below DIR.
Command:  python tools/test.py configs/retrieval/flickr30k_reweighted.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 1,000 pictures and 5,000 captions.
Expected: not known here.
Differs:  float32, not half precision; case and spaces make no other caption; ties count
          against the query.

Scores are re-weighted by a softmax over all queries of the test set, as PE's published ones: they
see all queries at once, as no search does. The same captions share their pictures.
"""

_base_ = "flickr30k.py"
protocol = dict(id="flickr30k-retrieval-reweighted")
reweight = 1.0
