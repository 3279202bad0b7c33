"""The page on which readers label pairs of images, and what it is made from."""
