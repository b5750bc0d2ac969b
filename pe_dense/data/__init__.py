"""Reading data: lists, maps, images with and without labels; `checks` looks through folders."""
