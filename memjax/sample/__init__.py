"""Weights and seed ids in, image stores out."""
