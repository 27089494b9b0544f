"""The table of scores in LaTeX: its numbers are the records', and no name is a command."""

import pandas as pd
import pytest

from jaxle.plots import score_table
from jaxle.plots.latex import escape

RECORDS = [
    {
        "tap": "block_1/mlp", "method": "label", "simulator": "labels", "mean_length": 4.25,
        "mean_correlation": 0.56577, "mean_correlation_low": 0.5443, "mean_correlation_high": 0.587,
        "mean_auprc": -0.00321, "sem_auprc": 0.0129,
    },
    {
        "tap": "block_2", "method": "50% & more", "simulator": "[x]", "mean_length": 3.0,
        "mean_correlation": 0.1, "sem_correlation": 0.02,
    },
]  # fmt: skip


def test_a_worked_example():
    assert score_table(RECORDS, ["correlation", "auprc", "length"]).splitlines() == [
        r"\begin{tabular}{llrrr}",
        r"\toprule",
        r"method & simulator & correlation & auprc & length \\",
        r"\midrule",
        r"\multicolumn{5}{l}{block\_1/mlp} \\",
        r"label & labels & 0.566 {[}0.544, 0.587{]} & $-$0.003 $\pm$ 0.013 & 4.2 \\",
        r"\midrule",
        r"\multicolumn{5}{l}{block\_2} \\",
        r"50\% \& more & {[}x{]} & 0.100 $\pm$ 0.020 & -- & 3.0 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_takes_a_run_a_frame_or_records():
    class Run:
        summary = {"results": RECORDS}

    assert score_table(Run()) == score_table(RECORDS) == score_table(pd.DataFrame(RECORDS))
    assert "block\\_1" not in score_table(RECORDS, taps=["block_2"])
    assert "auprc" not in score_table(RECORDS)  # asked for by name only


def test_every_character_of_a_name_is_printed():
    text = '\\input{x} $1$ a_b^c ~ # % & <b> "q" `t` -- * [o] 猫\n\0'
    assert escape(text) == (
        r"\textbackslash{}input\{x\} \$1\$ a\_b\textasciicircum{}c \textasciitilde{} \# \% \& "
        r"\textless{}b\textgreater{} \textquotedbl{}q\textquotedbl{} "
        r"\textasciigrave{}t\textasciigrave{} {-}{-} {*} {[}o{]} 猫  "
    )


@pytest.mark.parametrize(
    "arguments, says",
    [
        (([],), "got list without a record"),
        (("runs/quickstart",), "a score table needs a run of jaxle.load_run"),
        (([{"tap": "a"}],), "a record of scores lacks 'method'"),
        ((RECORDS, ["corelation"]), "no metric 'corelation': did you mean 'correlation'"),
    ],
)
def test_refusals(arguments, says):
    with pytest.raises(ValueError) as error:
        score_table(*arguments)
    assert says in str(error.value)


def test_an_unknown_tap_is_refused():
    with pytest.raises(ValueError, match="no tap 'block_3'"):
        score_table(RECORDS, taps=["block_3"])
