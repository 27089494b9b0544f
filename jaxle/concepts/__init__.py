"""The concept matrix: what the words are (`hierarchy`), and which image shows which (`labels`)."""
