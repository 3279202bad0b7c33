"""One loop, one small task a model."""
