"""StyleGAN2 as users of PyTorch write it: the peer of the training benchmark. Wants the `bench` extra."""
