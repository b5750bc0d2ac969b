"""Zero-shot classification and retrieval: what an encoder with a text tower knows by name."""
