"""Stand-ins for gcloud, git, kubectl, sbatch, scontrol and srun, which keep what they are given.

    script of launch/ ──> gcloud … ssh --command=… ──> sh -c … ──> ../venv/bin/python -m …
                          (a VM that is a folder)                   (ends as the test says)

Each is a shell script in a folder at the head of PATH. A remote command is run by a shell of its
own, so that quoting is seen as a worker sees it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ("gcloud", "git", "kubectl", "sbatch", "scontrol", "srun")
KEEP = r"""#!/usr/bin/env bash
here=@FOLDER@
keep() { printf '%s\x1f' "$@" >>"$here/$file" && printf '\x1e' >>"$here/$file"; }
take() { # the next line of a file; its last one for ever
    local line rest
    { IFS= read -r line; rest=$(cat); } <"$here/$1" || true
    if [ -n "$rest" ]; then printf '%s\n' "$rest" >"$here/$1"; fi
    printf '%s' "$line"
}
"""
CALLED = """
file=calls
keep "${0##*/}" "$@"
case "${0##*/} $*" in
    *queued-resources\\ create*) echo ACCEPTED >"$here/request" ;;
    *queued-resources\\ delete*) rm -f "$here/state" "$here/request" ;;
    *queued-resources\\ describe*)
        cat "$here/request" 2>/dev/null || exit 1
        case $(cat "$here/request") in # one step further at each question
            ACCEPTED) echo PROVISIONING >"$here/request" ;;
            PROVISIONING) echo ACTIVE >"$here/request" && echo READY >"$here/state" ;;
        esac ;;
    *tpu-vm\\ create*) echo READY >"$here/state" ;;
    *tpu-vm\\ delete*) rm -f "$here/state" ;;
    *tpu-vm\\ describe*) cat "$here/state" 2>/dev/null || exit 1 ;;
    *tpu-vm\\ ssh*jaxle.launch*)
        for word in "$@"; do
            case $word in --command=*) cd "$here/vm" && sh -c "${word#--command=}" ;; esac
        done ;;
    git\\ cat-file*) [[ $* != *absent* ]] ;;
    kubectl\\ apply*) cat >"$here/applied" ;;
    kubectl\\ get*terminalState*) take ends ;;
    kubectl\\ get*reason*) cat "$here/reason" ;;
    srun*) exec "$here/vm/venv/bin/python" "${@:5}" ;;
esac
"""
LAUNCHER = """
file=launched
keep "$@"
end=$(take ends)
case $end in
    preempted) echo PREEMPTED >"$here/state" && [ ! -f "$here/request" ] ||
        echo SUSPENDED >"$here/request"
        exit 255 ;;
    until\\ signalled) trap 'exit 75' TERM && echo waits >"$here/waits"
        while :; do sleep 0.01; done ;;
    other\\ worker*) echo "launch: w-7 ended with status ${end##* }" && exit 1 ;;
    *) exit "$end" ;;
esac
"""


class Machines(NamedTuple):
    """A folder that stands for the cloud, and what was called in it."""

    folder: Path
    environment: dict[str, str]

    def start(self, script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Starts a script of launch/."""
        return subprocess.Popen(
            ["bash", str(ROOT / "launch" / script), *arguments],
            cwd=self.folder,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Runs a script of launch/; returns its status, what it printed and what it said."""
        with self.start(script, *arguments, **variables) as started:
            out, said = started.communicate(timeout=60)
        return started.returncode, out, said

    def end(self, *ends: str) -> None:
        """Says how the launcher ends, time after time: a status, "preempted", …"""
        (self.folder / "ends").write_text("\n".join(ends) + "\n")

    def calls(self) -> list[list[str]]:
        """The words of every command that was run."""
        return _kept(self.folder / "calls")

    def launched(self) -> list[list[str]]:
        """The arguments of every start of the launcher."""
        return _kept(self.folder / "launched")


def make(folder: Path) -> Machines:
    """Makes the stand-ins in an empty folder."""
    for place in ("bin", "vm/jaxle", "vm/venv/bin", "tmp"):
        (folder / place).mkdir(parents=True)
    keep = KEEP.replace("@FOLDER@", str(folder))
    launcher = folder / "vm/venv/bin/python"
    launcher.write_text(keep + LAUNCHER)
    launcher.chmod(0o755)
    for program in PROGRAMS:
        path = folder / "bin" / program
        path.write_text(keep + CALLED)
        path.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    path = f"{folder}/bin:{os.environ['PATH']}"
    return Machines(folder, {**kept, "PATH": path, "TMPDIR": str(folder / "tmp")})


def _kept(path: Path) -> list[list[str]]:
    text = path.read_text() if path.exists() else ""
    return [call.split("\x1f")[:-1] for call in text.split("\x1e")[:-1]]
