"""The command line: one config in, explanations, scores and tables out; the same again resumes.

    python -m jaxle.launch --config FILE[:variant] [--config.a.b=value …] [--stages=probe,fit,…]

The console script `jaxle` is the same. Of a finished run, `jaxle report RUN` makes the report again
(`pipeline/report_command.py`), and `jaxle label-sheet RUN …` a sheet with which a person checks
some explanations (`pipeline/label_sheet.py`). Exit status:

    0    every requested stage is complete
    1    the machine refused: disk, rights, network, or an error in the code; the same resumes
    2    the command, its config or its data are wrong: one sentence says what and what to do
    75   stopped by SIGTERM, as before a machine is taken away, after the step or the part of the
         images in progress was saved; the same command resumes
    130  interrupted (Ctrl-C); the same command resumes

Several processes make one run together. On a TPU pod, under SLURM's `srun` and Open MPI's `mpirun`
they find one another; elsewhere each is started with the same command and
--coordinator=HOST:PORT --processes=N --process=I. The workdir must be on storage that all share
(docs/clusters.md). Where one of them ends early, the others end with its exit status, and where one
is gone with 1; the same command resumes, with as many processes as there are then.
"""

from __future__ import annotations

import codecs
import dataclasses
import io
import os
import sys
import traceback
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags

from jaxle.pipeline.stages import STAGES
from jaxle.stopping import STATUS, Stopped, end_now, stops_on_sigterm

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Path of the experiment's config, with an optional :variant.", lock_config=True
)
_STAGES = flags.DEFINE_list("stages", list(STAGES), f"Which stages to run, of {', '.join(STAGES)}.")
RESUMES = "the same command resumes."
_PLAIN = {"ρ": "rho", "×": "*", "−": "-", "·": "|", "±": "+-", "…": "...", "σ": "sigmoid"}
_NO_FUNCTION = (
    "has no function get_config: expected one that returns the settings, such as "
    "jaxle.pipeline.defaults.get_config()."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "HOST:PORT of process 0, where the environment does not say it."
)
_PROCESSES = flags.DEFINE_integer(
    "processes", 0, "How many processes make this run; 1: this one alone, whatever is around it."
)
_PROCESS = flags.DEFINE_integer("process", -1, "Which of them this is, from 0.")
_VERBOSE = flags.DEFINE_bool(
    "verbose", False, "Show every step, every score and the best, median and worst neurons."
)
_TRACEBACK = flags.DEFINE_bool(
    "traceback", False, "Show where in the code a refused input was found."
)


def main(argv: list[str]) -> int:
    """Runs the requested stages in order, and returns the exit status.

    Args:
      argv: what the flags left over, the program's name first; more than that is an error.
    """
    if argv[1:]:
        return _refuse(
            f"unexpected arguments {argv[1:]}: "
            "every setting is written --config.section.field=value."
        )
    if _CONFIG.value is None:
        return _refuse(
            "no config given: expected --config FILE, such as --config configs/quickstart.py."
        )
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # --verbosity=0 adds what JAX has to say
    try:
        # with JAX, seconds to load: after the first line, and after flags that are refused
        from jaxle import multihost
        from jaxle.compilation import leave_out_triton, use_compilation_cache
        from jaxle.mesh import make_mesh
        from jaxle.pipeline import run as pipeline
        from jaxle.pipeline.lock import locked
        from jaxle.pipeline.reading import read_config

        leave_out_triton()
        use_compilation_cache()
        config = read_config(_CONFIG.value.to_dict())
        patience = {"silence": config.mesh.silence, "patience": config.mesh.patience}
        multihost.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value, **patience)
        workdir = os.path.expanduser(config.workdir or _default_workdir())
        config = dataclasses.replace(config, workdir=workdir)
        mesh = make_mesh(config.mesh.data or None, config.mesh.model)
        holds = locked(epath.Path(config.workdir)) if multihost.first() else nullcontext()
        with holds, stops_on_sigterm():
            multihost.wait("hold the workdir")
            pipeline.run(config, _STAGES.value, mesh, _VERBOSE.value)
            multihost.finish()
    except ValueError as error:  # bad input, found at a boundary: one sentence
        return _failed(error, str(error), 2)
    except TimeoutError as error:
        if error.errno is not None:
            return _failed(error, _os_sentence(error), 1)
        _failed(error, str(error), 1)
        end_now(1)  # a thread that hangs would be waited for
    except OSError as error:  # a disk that is full, a folder without rights, no network
        return _failed(error, _os_sentence(error), 1)
    except Stopped as stopped:
        return _failed(stopped, f"stopped by SIGTERM after saving {stopped}; {RESUMES}", STATUS)
    except RuntimeError:  # of JAX, where another process of this run is gone
        if "jaxle.multihost" in sys.modules:
            sys.modules["jaxle.multihost"].lost()  # ends this one, where it knows which
        raise
    except KeyboardInterrupt:
        _interrupted()
    return 0


def run() -> None:
    """Entry point of `python -m jaxle.launch` and of the console script `jaxle`."""
    codecs.register_error("jaxle", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="jaxle")
    if sys.argv[1:2] == ["label-sheet"]:
        from jaxle.pipeline import label_sheet  # with SciPy's statistics, half a second to load

        sys.exit(label_sheet.main(sys.argv[2:]))
    if sys.argv[1:2] == ["report"]:
        from jaxle.pipeline import report_command

        sys.exit(report_command.main(sys.argv[2:]))
    if __name__ != "__main__" and {"--help", "-help", "-h"} & set(sys.argv[1:]):
        print(__doc__)  # absl would look for the flags of the console script
        print(flags.FLAGS.module_help(__name__))
        sys.exit(0)
    path, variant = _config_path(sys.argv), _config_variant(sys.argv)
    if path is not None:
        about = f"{path}:{variant}" if variant else str(path)
        print(f"jaxle {version('jaxle')}: {about}", file=sys.stderr, flush=True)
        if not path.is_file():
            refusal = f"config file {path} does not exist: expected a Python file"
            sys.exit(_refuse(f"{refusal} such as configs/quickstart.py."))
        # so that a config can import what lies beside its folder: `from configs import paper`
        sys.path.insert(0, str(path.resolve().parent.parent))
    try:
        app.run(main, flags_parser=_parse)
    except KeyboardInterrupt:
        _interrupted()


def _parse(argv: list[str]) -> list[str]:
    """Parses the flags; what the config does not know, or has wrong, ends with one sentence."""
    try:
        return flags.FLAGS([_with_tuple(argument) for argument in argv])
    except (AttributeError, KeyError) as error:
        found, sentence = error, _unknown_field(error, _config_path(argv))
    except (ImportError, NameError, SyntaxError) as error:
        found, sentence = error, _code_sentence(error, _config_path(argv))
    except (flags.Error, TypeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        found, sentence = error, _variant_sentence(lines[-1], _config_path(argv))
        sentence = sentence or (lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}")
    if "--traceback" in argv:
        traceback.print_exception(found)
    sys.exit(_refuse(sentence))


def _unknown_field(error: AttributeError | KeyError, path: Path | None) -> str:
    """What ml_collections says of a field, such as: 'sorce' Did you mean "source" …"""
    while error.args and isinstance(error.args[0], KeyError):
        error = error.args[0]
    said = " ".join(str(error.args[0]).split()).split(" Did", 1)
    if said[0].endswith("has no attribute 'get_config'"):
        return f"config file {path} {_NO_FUNCTION}"
    return "unknown config field " + "; did".join(said)


def _code_sentence(error: Exception, path: Path | None) -> str:
    """What is wrong in the code of a config file, or of what it imports."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where, line = last.filename, last.lineno
    if isinstance(error, SyntaxError):
        where, line, error = error.filename or where, error.lineno, SyntaxError(error.msg)
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"config file {path} does not run: {what} ({where}, line {line})."


def _variant_sentence(said: str, path: Path | None) -> str:
    """A sentence where a config file takes no variant and has one, or the reverse; else ""."""
    if "get_config() takes 0 positional arguments" in said:
        return f"config file {path} has no variants: leave out what follows .py."
    if "get_config() missing 1 required positional argument" in said:
        return f"config file {path} needs a variant: expected --config {path}:VARIANT."
    return ""


def _with_tuple(argument: str) -> str:
    """A tuple field's value as Python writes it: --config.target.taps=a,b becomes =('a', 'b').

    A shell leaves the ~ of --config=~/c.py, which becomes the home folder.
    """
    name, equals, value = argument.partition("=")
    if name.lstrip("-") == "config":
        return name + equals + os.path.expanduser(value)
    if not name.lstrip("-").startswith("config."):
        return argument
    from jaxle.options import describe
    from jaxle.pipeline.reading import SECTIONS

    section, _, field = name.lstrip("-").removeprefix("config.").partition(".")
    fields = describe(SECTIONS[section]) if section in SECTIONS else {}
    if not equals or field not in fields or fields[field].kind is not tuple:
        return argument
    if value.strip()[:1] in ("(", "[", "'", '"'):
        return argument
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return f"{name}={tuple(_number(part) for part in parts)!r}"


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _config_path(argv: list[str]) -> Path | None:
    """The file that --config names, without its variant, before the flags are parsed."""
    value = _config_value(argv)
    if value is None:
        return None
    return Path(value.rpartition(":")[0] if ".py:" in value else value).expanduser()


def _config_variant(argv: list[str]) -> str:
    value = _config_value(argv) or ""
    return value.rpartition(":")[2] if ".py:" in value else ""


def _config_value(argv: list[str]) -> str | None:
    for i, argument in enumerate(argv[1:], 1):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            return value if equals else argv[i + 1] if i + 1 < len(argv) else ""
    return None


def _default_workdir() -> str:
    filename = config_flags.get_config_filename(flags.FLAGS["config"])
    stem, _, variant = filename.partition(".py:")
    return os.path.join("runs", "-".join(part for part in (Path(stem).stem, variant) if part))


def _failed(error: Exception, sentence: str, status: int) -> int:
    if _TRACEBACK.value:
        traceback.print_exception(error)
    _refuse(sentence)
    if "jaxle.multihost" in sys.modules:
        sys.modules["jaxle.multihost"].stopped(sentence, status)
    return status


def _os_sentence(error: OSError) -> str:
    """What the operating system refused, with the path; what was computed before it stays."""
    if isinstance(error, (ConnectionError, ChildProcessError)) and error.errno is None:
        return str(error)
    where = f" {error.filename}" if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    if isinstance(error, FileExistsError):  # where a folder was to be made
        reason = "it is no folder, but a file or a link that leads nowhere"
    return f"cannot use{where}: {reason}; what was computed is kept, and the same command resumes."


def _interrupted() -> NoReturn:
    print(f"\njaxle: interrupted; {RESUMES}", file=sys.stderr, flush=True)
    if "jaxle.multihost" in sys.modules:
        sys.modules["jaxle.multihost"].stopped(f"interrupted; {RESUMES}", 130)
    end_now(130)


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """What a terminal that lacks a character shows in its place."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in text), error.end


def _refuse(sentence: str) -> int:
    print(f"jaxle: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    run()
