"""Your own videos by their captions, and captions by their videos.

Paper:    retrieval as CLIP (arXiv:2103.00020) and PE (arXiv:2504.13181) score it: a query counts if
          one of its right answers is among the first k.
Data:     DIR/captions.jsonl, one line for each video: {"video": "a.mp4", "captions": ["...",
          "..."]}; videos in DIR or DIR/videos. Another file below DIR: captions=FILE.
Command:  python tools/test.py configs/retrieval/videos_custom.py --encoder pe_core_b16_224 \\
              --cfg-options data_root=DIR
Cost:     one encoder pass over 8 frames of each video, which is decoded whole.
Expected: depends on the data; above drawing by lot, which needs trained weights.

A video is the mean of the unit vectors of its frames, as in PE's evaluation. Scores are plain;
reweight=1.0 re-weights them as PE's published numbers are, which sees all queries at once. Records
are filed under this protocol and the hash of the file of captions.
"""

_base_ = ["../_base_/runtime.py", "../_base_/retrieval.py"]
protocol = dict(
    id="custom-retrieval-videos",
    version=1,
    task="retrieval",
    dataset="$data.name",
    split="own",
    metric="text_to_video_R@1",
    higher_is_better=True,
    own_annotations=dict(val="$data.sha256"),
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = None  # --cfg-options data_root=DIR
data_facts = "pe_dense.zero_shot.own_facts:caption_facts"
captions, style, folder = None, None, None  # found by looking
test_dataloader = dict(
    dataset=dict(ann_file="$data.captions", style="$data.style", folder="$data.folder")
)
media = "video"
fit, reweight = "squash", None
