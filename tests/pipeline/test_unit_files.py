"""A new user's SAE in each published form goes through a run as it is, and the page of units runs
as it stands."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests import runs

WIDTH, UNITS = 16, 8  # of layer1
DRAW = np.random.default_rng(0)
SHAPES = {"W_enc": (WIDTH, UNITS), "W_dec": (UNITS, WIDTH), "b_enc": (UNITS,), "b_dec": (WIDTH,)}
TENSORS = {name: DRAW.standard_normal(s).astype(np.float32) for name, s in SHAPES.items()}
LINEAR = {
    "encoder.weight": TENSORS["W_enc"].T,
    "encoder.bias": TENSORS["b_enc"],
    "decoder.weight": TENSORS["W_dec"].T,
    "b_dec": TENSORS["b_dec"],
    "k": np.array(3),
}


def saev(folder, torch, as_torch):
    cfg = {"activation": {"cls": "TopK", "params": {"top_k": 3}}}
    with (folder / "sae.pt").open("wb") as file:
        file.write((json.dumps({"schema": 5, "cfg": cfg}) + "\n").encode())
        torch.save(as_torch(TENSORS), file)
    return folder / "sae.pt"


def prisma(folder, torch, as_torch):
    torch.save({"state_dict": as_torch(TENSORS)}, folder / "n_images_9.pt")
    settings = {"hook_point": "blocks.9.hook_resid_post", "activation_fn_str": "relu"}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def dictionary_learning(folder, torch, as_torch):
    torch.save(as_torch(LINEAR), folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderTopK"}}))
    return folder


def saelens(folder, torch, as_torch):
    save_file(TENSORS, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": WIDTH, "d_sae": UNITS}))
    return folder


@pytest.mark.parametrize("write", [saev, prisma, dictionary_learning, saelens])
def test_each_published_form_goes_through_a_run(write, tmp_path, torch, capsys):
    def as_torch(tensors):
        return {n: torch.as_tensor(np.ascontiguousarray(t)) for n, t in tensors.items()}

    path = write(tmp_path, torch, as_torch)
    fields = {"target.units": f"sae:{path}", "target.unit_options": {"check_metadata": False}}
    fields["data.limit"] = 40
    with pytest.raises(ValueError, match="with an explained variance of -"):
        runs.quick(tmp_path / "run", fields, ("probe",))  # random weights reconstruct nothing
    runs.quick(tmp_path / "run", fields | {"target.min_explained_variance": 0.0}, ("probe",))
    printed = capsys.readouterr().err
    assert f"layer1: 8 units, sae of {tmp_path.name}/" in printed
    assert "explained variance -" in printed


PAGE = (runs.ROOT / "docs" / "units.md").read_text(encoding="utf-8")


def test_the_page_of_units_runs_as_it_stands(capsys):
    config, maker, model = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    held: dict = {}
    exec(config, held)
    assert held["get_config"]().target.units == "concept_vectors"
    exec(maker, held)
    units = held["PAIRS"].make(None, 4)
    assert units.arrays["encoder"].tolist()[0] == [1, -1, 0, 0]
    exec(model, held)
    assert capsys.readouterr().out == "(8, 8, 8)\n"


def test_the_page_names_every_kind_and_option():
    from jaxle.models.units import UNITS as TABLE
    from jaxle.options import describe

    for name, maker in TABLE.items():
        assert f"| `{name}{':' * bool(maker.takes)}{maker.takes}` |" in PAGE
        for option, of in describe(maker.options).items():
            assert f"`{option}`" in PAGE or f"unit_options.{option}" in PAGE, option
            if name in ("semi_nmf", "concept_vectors"):
                assert f"`{option}` ({of.default:,g})" in PAGE
