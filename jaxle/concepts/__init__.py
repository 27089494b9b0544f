"""The concept matrix: which words (`sets`), their superclasses (`hierarchy`, `wordnet`), and which
image shows which (`labels` by labels, `contrastive` by two towers, `calibration` for their scale).
"""
