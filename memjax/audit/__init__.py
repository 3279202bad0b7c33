"""The audit: which synthetic images are copies of which training images, and how sure we are."""
