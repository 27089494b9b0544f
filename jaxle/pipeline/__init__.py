"""One run, a file a step: from a config to explanations, scores and tables; read `run.py` first."""
