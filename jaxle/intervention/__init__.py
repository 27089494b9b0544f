"""Intervention: what a neuron does to the network's output, not how well words predict it."""

from jaxle.columns import Column

_MEANING = (
    "how much of what the neuron does to the loss survives when c·s + d replaces it: "
    "1 − Σ|ΔL|/Σ|ΔL with its mean in its place|; "
)
# columns of scores.csv, by `ablation_scores`
COLUMNS: tuple[Column, ...] = (
    Column(
        "ablation_excess",
        -float("inf"),
        float("inf"),
        "higher",
        "the score of record: ablation_optim − the larger of ablation_constant and 0; "
        "0: no better than a constant",
        counted="ablation_scored",
    ),
    Column(
        "ablation_constant",
        -float("inf"),
        1.0,
        "",
        "ablation_optim of the best constant, chosen on val: what needs no explanation",
        counted="ablation_scored",
    ),
    Column(
        "ablation_optim",
        -float("inf"),
        1.0,
        "higher",
        _MEANING + "c and d by gradient descent on val; a constant alone may score well above 0",
        counted="ablation_scored",
    ),
    Column(
        "ablation_norm",
        -float("inf"),
        1.0,
        "higher",
        _MEANING + "c and d in closed form from val's statistics; 0: no better than the mean",
        counted="ablation_scored",
    ),
    Column(
        "ablation_scale",
        -float("inf"),
        float("inf"),
        "",
        "c of ablation_optim, on the simulated activation; chosen on val",
        averaged=False,
    ),
    Column(
        "ablation_shift",
        -float("inf"),
        float("inf"),
        "",
        "d of ablation_optim, in units of the activation; chosen on val",
        averaged=False,
    ),
    Column(
        "ablation_scored",
        0.0,
        1.0,
        "",
        "whether the neuron was scored: where the tail is not linear, "
        "`evaluation.ablation_neurons` may limit how many are; the others have 0 and enter no mean",
        averaged=False,
    ),
)
