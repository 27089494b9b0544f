"""Intervention: what a neuron does to the network's output, apart from how well words predict it."""
