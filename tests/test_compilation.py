"""Programs are compiled for few shapes, and kept on disk unless the user says otherwise."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxle
from jaxle.compilation import OPT_OUT, TRITON, leave_out_triton, without_triton
from jaxle.evaluation.swap import swap

RNG = np.random.default_rng(0)
NAMES = [f"c{j}" for j in range(20)]


@pytest.fixture
def compilations():
    """A list that grows by one name with every program compiled."""
    names = []

    def listen(event, duration, **facts):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(facts.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def layer(n_images, n_neurons, dtype=np.float32):
    probs = (RNG.random((n_images, 20)) < 0.3).astype(np.float32)
    real = probs @ RNG.normal(size=(20, n_neurons)) + RNG.normal(size=(n_images, n_neurons))
    return real.astype(dtype), probs


def use(activations, probs, search):
    found = jaxle.explain(activations, probs, NAMES, search=search)
    jaxle.correlation(jaxle.simulate(found, probs, NAMES), activations)


@pytest.mark.parametrize("search", ["greedy", "top_k", "preconditioned"])
def test_other_numbers_of_neurons_and_images_compile_nothing(search, compilations):
    """47 after 48 neurons took 5 seconds, 1,001 after 1,000 images the like."""
    use(*layer(1000, 48), search)
    first = len(compilations)
    assert first > 0 or search != "greedy"
    others = [(1000, 47, "f4"), (1001, 48, "f4"), (990, 33, "f4"), (1000, 48, "f8")]
    for n_images, n_neurons, dtype in others:
        use(*layer(n_images, n_neurons, dtype), search)
    activations, probs = layer(1001, 47)
    use(activations + 1e8, probs, search)
    use(jax.device_put(activations), jax.device_put(probs), search)
    assert compilations[first:] == []


def test_elastic_nets_of_other_sizes_compile_nothing(compilations):
    activations, probs = layer(1000, 48)
    jaxle.elastic_net(probs, activations, lam=0.01, l1_ratio=0.9)
    first = len(compilations)
    for activations, probs in (layer(1000, 47), layer(1001, 48), layer(1000, 48, np.float64)):
        jaxle.elastic_net(probs, activations, lam=0.02, l1_ratio=1.0)
        jaxle.elastic_net(probs * np.float32(1e-30), activations, lam=1e-32, l1_ratio=0.5)
    assert compilations[first:] == []


def test_own_explanations_against_others_on_other_images_compile_nothing(compilations):
    real, simulated = RNG.normal(size=(2, 1000, 48))
    swap(simulated, real)
    first = len(compilations)
    for n_images, n_neurons in ((1000, 47), (1001, 48), (1024, 33)):
        swap(RNG.normal(size=(n_images, n_neurons)), RNG.normal(size=(n_images, n_neurons)))
    assert compilations[first:] == []


PROGRAM = """
import jax, numpy as np
jax.jit(lambda x: x + 1)(1.0)  # the cache must come into use after a first program, too
import jaxle
from jaxle.compilation import use_compilation_cache
{call}
print(jax.config.values["jax_compilation_cache_dir"])
"""
EXPLAIN = "x = np.tile(np.eye(3), (40, 1)); jaxle.explain(x, x, list('abc'), min_top5=0)"


def cache_folder(tmp_path, call, **environment):
    """Where a fresh process keeps its programs, as it says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX")}
    kept |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.split()[-1]


def test_the_python_api_keeps_compiled_programs(tmp_path):
    folder = tmp_path / "jaxle" / "xla"
    assert cache_folder(tmp_path, EXPLAIN) == str(folder)
    assert len(list(folder.iterdir())) > 1


def test_each_function_that_compiles_much_turns_the_cache_on(monkeypatch):
    asked = []
    for module in ("explainers.explain", "solve.lasso", "evaluation.evaluate", "models.zoo"):
        monkeypatch.setattr(
            f"jaxle.{module}.use_compilation_cache", lambda m=module: asked.append(m)
        )
    activations, probs = layer(60, 3)
    found = jaxle.explain(activations, probs, NAMES)
    jaxle.evaluate(found, activations, probs, NAMES, metrics=["correlation"], ceiling=False)
    jaxle.elastic_net(probs, activations, lam=0.1, l1_ratio=0.9)
    with pytest.raises(ValueError, match="unknown"):
        jaxle.load_model("nothing")
    assert asked == ["explainers.explain", "evaluation.evaluate", "solve.lasso"]


def test_users_opt_out_and_their_own_settings_stay(tmp_path):
    nothing = "use_compilation_cache()"
    assert cache_folder(tmp_path, nothing, **{OPT_OUT: "1"}) == "None"
    own = str(tmp_path / "own")
    assert cache_folder(tmp_path, nothing, JAX_COMPILATION_CACHE_DIR=own) == own
    assert not (tmp_path / "jaxle").exists()
    (tmp_path / "file").write_text("")
    assert cache_folder(tmp_path, nothing, XDG_CACHE_HOME=str(tmp_path / "file")) == "None"


def test_products_are_compiled_without_triton_unless_the_user_has_chosen(monkeypatch):
    """On an H100 the moments of a layer compiled for 37 s, nearly all of it Triton's kernels."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    leave_out_triton()
    assert os.environ["XLA_FLAGS"] == f"--{TRITON}=false"
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true")
    assert without_triton() is None  # a CPU's programs are as they were
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    options = without_triton()
    assert options == {TRITON: False}
    # an option that this XLA does not know would end the compilation
    assert float(jax.jit(lambda x: x + 1, compiler_options=options)(1.0)) == 2
    leave_out_triton()
    assert os.environ["XLA_FLAGS"] == f"--xla_cpu_multi_thread_eigen=true --{TRITON}=false"
    assert without_triton() is None
    monkeypatch.setenv("XLA_FLAGS", f"--{TRITON}=true")
    leave_out_triton()
    assert os.environ["XLA_FLAGS"] == f"--{TRITON}=true"
