"""Evaluation: how far an explanation can be trusted."""
