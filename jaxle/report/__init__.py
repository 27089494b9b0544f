"""What the user sees of a run: progress, tables, the listing at its end."""
