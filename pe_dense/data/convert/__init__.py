"""Labels as people have them, read into one form and written as COCO JSON or as label maps."""
