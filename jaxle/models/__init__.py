"""Networks in Flax Linen: one architecture a file, taps on any module, checkpoints read strictly."""
