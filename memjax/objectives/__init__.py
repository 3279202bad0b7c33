"""Mathematics: arrays in, one loss an example out."""
