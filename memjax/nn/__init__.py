"""Layers for 2-D and 3-D alike."""
