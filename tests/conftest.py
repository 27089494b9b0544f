"""Eight CPU devices, shapes checked, no implicit rank promotion, warnings are errors.

A test spends most of its time on compilation, and its programs run once. So they are compiled as
`tests/flags.py` says, in half the time. Programs that tests start in a process of their own as a
user does, and all where XLA_FLAGS names a level of optimisation (as for the parity tests of
.ci/run), are compiled as a user's are. Here too are the only reasons for which a test may be
skipped.
"""

import gc
import os
import sys
from pathlib import Path

gc.set_threshold(100_000, 20, 20)  # most of what is made here stays: look for rubbish seldom
ROOT = Path(__file__).resolve().parent.parent
# for `from configs import …`; last, so that an installed jaxle comes first
sys.path += [str(ROOT / "tests"), str(ROOT)]

from tests.flags import COMPILED_FAST  # noqa: E402

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# the threads of a BLAS spin while they wait, and each test process has one core to itself
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
given = os.environ.get("XLA_FLAGS", "")
more = [] if "xla_backend_optimization_level" in given else COMPILED_FAST
if "xla_force_host_platform_device_count" not in given:
    more = ["--xla_force_host_platform_device_count=8", *more]
os.environ["XLA_FLAGS"] = " ".join([given, *more]).strip()

import importlib.util  # noqa: E402
import shutil  # noqa: E402
from collections import Counter  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

from tests.flax_speed import compare_parameters_once  # noqa: E402

# every annotated shape of the package is checked in every call that a test makes
install_import_hook("jaxle", "shape_checker.check")

jax.config.update("jax_numpy_rank_promotion", "raise")
# no test reads what another process compiled, or writes into a home
jax.config.update("jax_enable_compilation_cache", False)
# where in our code an operation stands is written into no program
jax.config.update("jax_traceback_in_locations_limit", 0)
compare_parameters_once()

NO_DATA = "JAXLE_TEST_DATA is not set (a folder of real images and trained weights)"
NO_TORCH = "torch is not installed (the oracle of the parity tests)"
NO_BROWSER = "no Chromium, or no playwright (they open the report as a reader does)"
NO_AXE = "JAXLE_AXE is not set (axe.min.js of axe-core, which looks for faults of accessibility)"
ALLOWED_SKIPS = (NO_DATA, NO_TORCH, NO_BROWSER, NO_AXE)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Files that take longest; those that wait for the one finished run of pipeline/ stand apart.
LONGEST = (
    "test_quickstart",
    "test_run",
    "test_ablation",
    "test_your_own_network",
    "test_zoo",
    "test_photographs",
    "test_launch",
    "test_train_siglip",
    "test_recorded",
    "test_preconditioned",
    "test_generated",
    "test_intervals",
    "test_counterfactual",
    "test_recipes",
    "test_declared",
    "test_plugins",
    "test_labelling",
    "test_linear",
    "test_explain",
    "test_inputs",
    "test_suffix",
    "test_train_scenes",
    "test_random_network",
    "test_units",
    "test_fine_tuned",
    "test_convnext",
    "test_network",
    "test_columns",
    "test_two_tower",
    "test_fit",
    "test_impact",
    "test_processes",
    "test_probe",
    "test_pe",
    "test_dinov2",
    "test_siglip",
    "test_unlabelled",
    "test_published",
    "test_dinov3",
    "test_load",
    "test_planted",
)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real inputs."""
    folder = os.environ.get("JAXLE_TEST_DATA")
    if not folder:
        pytest.skip(NO_DATA)
    return Path(folder)


@pytest.fixture(scope="session")
def torch():
    """The module torch, CPU, as an independent oracle."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip(NO_TORCH)
    import torch

    torch.set_num_threads(1)  # its arrays are small here, and other tests use the other cores
    return torch


@pytest.fixture(scope="module")  # its event loop runs as long as it is open
def chromium():
    """A headless browser of playwright; JAXLE_CHROMIUM names the program where it is no command."""
    named = os.environ.get("JAXLE_CHROMIUM")
    program = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None or importlib.util.find_spec("playwright") is None:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core."""
    path = os.environ.get("JAXLE_AXE")
    if not path:
        pytest.skip(NO_AXE)
    return Path(path).read_text(encoding="utf-8")


def pytest_configure(config):
    """Let several processes take files in the order of collection."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Order files so that no process ends late; mark what needs the oracle, so that CI can run it
    by itself.

    The longest files come first, then those of many tests.
    """
    tests = Counter(item.path for item in items)

    def order(item):
        place = LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST)
        return place, -tests[item.path], item.path

    items.sort(key=order)
    for item in items:
        if "torch" in getattr(item, "fixturenames", ()):
            item.add_marker("torch")


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """Name every skip whose reason is not in the list, and fail the run under CI."""
    unexpected = [
        r
        for r in terminalreporter.stats.get("skipped", [])
        if not any(reason in str(r.longrepr) for reason in ALLOWED_SKIPS)
    ]
    for report in unexpected:
        terminalreporter.write_line(
            f"SKIPPED for a reason not listed in tests/conftest.py: {report.nodeid}"
        )


def pytest_sessionfinish(session, exitstatus):
    """JAXLE_NO_SKIPS=1 (set by CI) makes any skip a failure, but for data that are not at hand.

    Without it, a skip for an unlisted reason is one.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [] if reporter is None else reporter.stats.get("skipped", [])
    allowed = ALLOWED_SKIPS
    if os.environ.get("JAXLE_NO_SKIPS"):
        allowed = () if os.environ.get("JAXLE_TEST_DATA") else (NO_DATA,)
    if exitstatus == 0 and any(
        not any(reason in str(r.longrepr) for reason in allowed) for r in skipped
    ):
        session.exitstatus = 1
