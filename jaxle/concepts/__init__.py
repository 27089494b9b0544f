"""The concept matrix: which words (`sets`), what lies above them (`hierarchy`, `wordnet`), and which image shows which (`labels` by labels,
`contrastive` by two towers, `calibration` for their scale)."""
