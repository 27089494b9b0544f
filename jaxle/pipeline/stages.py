"""The stages of a run, in order; a module of its own, so that the command line starts at once."""

STAGES = ("probe", "fit", "explain", "simulate", "score", "report")
