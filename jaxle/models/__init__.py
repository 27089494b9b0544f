"""Networks in Flax Linen: an architecture a file, taps on any module, checkpoints read strictly."""
