"""Probe images: where they come from (`sources`), how they are read once for every network
(`loader`), how they are split (`splits`)."""
