"""Explainers: how a neuron's activations become an explanation."""
