"""The border to mmengine, mmdet and mmseg: backbone, necks, layer decay, image loading."""
