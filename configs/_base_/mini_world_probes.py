"""What a student is worth while it is aligned: two quick scores on the mini world."""

probes = [
    dict(
        name="mini_segmentation",
        function="pe_dense.alignment.patch_probe:nearest_centroid_segmentation",
        data_root="data/mini/ade",
        num_classes=10,
    ),
    dict(
        name="mini_propagation",
        function="pe_dense.tracking.encoder_probe:propagation_scores",
        data_root="data/mini/davis",
    ),
]
