"""Explanations: one neuron's, a layer's table of them, and the CSV file in which they are kept."""

from jaxle.explanations.explanation import FLAGS, KINDS, Explanation, check_names
from jaxle.explanations.formula import FormulaRows
from jaxle.explanations.published import to_cell
from jaxle.explanations.table import Explanations

__all__ = ["FLAGS", "KINDS", "Explanation", "Explanations", "FormulaRows", "check_names", "to_cell"]
