"""A trained model on a person's own pictures: typed results, and folders of them."""
