"""Numbers only: second moments and the solvers that live on them."""
