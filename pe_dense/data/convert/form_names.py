"""Names of the formats, without what reads them."""

FORMS = (
    "yolo", "voc", "cvat", "labelstudio", "labelme", "via", "coco-panoptic", "coco-masks",
)  # fmt: skip
TARGETS = ("coco", "semantic")
