"""The scripts of launch/: what they show, and how they go on, on machines that are stand-ins."""

import shlex
import signal
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest
import yaml

from tests.launch import machines

ROOT = machines.ROOT
SCRIPTS = sorted(path for path in (ROOT / "launch").iterdir() if path.suffix != ".yaml")
STARTED = ("tpu_vm.sh", "tpu_pod.sh", "slurm_gpu.sbatch", "gke_tpu.sh")
WORKDIR = "--config.workdir=gs://bucket/run"
RUN = ["--config", "configs/quickstart.py", WORKDIR]
# what a shell could take apart: both quotes, spaces, signs, a new line
ODD = "--config.concepts.sets=('a b', \"c'd\", '$HOME', '`x`', '\\n', '*', 'é\nf')"
POD = ["mine", "us-east5-a", "--create=v5p-64", "--spot", "--pause=0"]
SLICE = ["mine", "--image=reg/jaxle:1", "--accelerator=tpu-v5p-slice", "--topology=2x4x4"]
JOB = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NUM_NODES": "2"}


@pytest.fixture
def cloud(tmp_path):
    return machines.make(tmp_path)


def verbs(calls: list[list[str]]) -> list[str]:
    """`gcloud compute tpus tpu-vm create mine …` as "create", questions left out."""
    names = [call[4] if call[0] == "gcloud" else call[0] for call in calls]
    return [name for name in names if name not in ("describe", "git")]


def test_shellcheck_finds_nothing():
    program = Path(sysconfig.get_path("scripts")) / "shellcheck"
    done = subprocess.run([program, "-x", *SCRIPTS], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_lines_are_at_most_100_columns():
    for path in (ROOT / "launch").iterdir():
        assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 100, path


@pytest.mark.parametrize("script", STARTED)
def test_without_arguments_a_script_says_what_it_does(cloud, script):
    status, out, said = cloud.run(script)
    assert (status, out, cloud.calls()) == (2, "", [])
    assert f"launch/{script}" in said and "--print" in said and "set -euo" not in said


@pytest.mark.parametrize(
    "script, arguments, words",
    [
        ("tpu_vm.sh", ["a", "z"], "no config given: expected --config FILE"),
        ("tpu_vm.sh", ["a", "z", "--spot", *RUN], "--spot is how a VM is made: add --create=TYPE"),
        (
            "tpu_vm.sh",
            ["a", "z", "--create=v6e-8", "--spot", *RUN[:2]],
            "a VM that is preempted takes the folder 'runs/…' with it: add --config.workdir=gs://",
        ),
        ("tpu_vm.sh", ["a", "z", "--create=v6e-8", "--queued", "--preemptible", *RUN], "the queue"),
        ("tpu_vm.sh", ["a", "z", "--config", "configs/absent.py"], "is not in the last commit"),
        ("tpu_vm.sh", ["a", "z", *RUN], "a is not there: --create=TYPE makes it"),
        ("tpu_pod.sh", ["a", "z", *RUN[:2]], "the workers of a pod do not share the folder 'runs/"),
        (
            "tpu_pod.sh",
            ["a", "z", *RUN[:2], "--config.workdir", "r"],
            "do not share the folder 'r'",
        ),
        ("slurm_gpu.sbatch", RUN, "this is no job: start it with sbatch launch/slurm_gpu.sbatch"),
        ("slurm_gpu.sbatch", ["--config=absent.py"], "config absent.py does not exist in"),
        (
            "slurm_gpu.sbatch",
            ["--print", *RUN[:2]],
            "2 nodes need a workdir that all of them share",
        ),
        ("gke_tpu.sh", ["a", *RUN], "--image=… is missing"),
        ("gke_tpu.sh", [*SLICE, *RUN[:2]], "a pod's own disk goes with it: add --config.workdir="),
        (
            "gke_tpu.sh",
            [*SLICE, "--chips=5", *RUN],
            "topology 2x4x4 has 32 chips, no multiple of 5",
        ),
        ("gke_tpu.sh", [*SLICE, "--topology=8", *RUN], "topology '8': expected one such as 2x4x4"),
    ],
)
def test_a_refusal_is_one_sentence_and_status_2(cloud, script, arguments, words):
    status, out, said = cloud.run(script, *arguments)
    assert (status, out) == (2, "") and said.count("\n") == 1, said
    assert said.startswith("launch: ") and words in said, said
    assert {word for call in cloud.calls() for word in call}.isdisjoint(("create", "ssh", "apply"))


def test_print_shows_what_a_pod_would_run(cloud):
    arguments = [*POD[:4], "--queued", "--delete", "--print", *RUN, ODD]
    status, out, said = cloud.run("tpu_pod.sh", *arguments)
    assert (status, said, cloud.calls()) == (0, "", [])
    shown = shlex.split(out, comments=True)
    request = "gcloud compute tpus queued-resources"
    archive = f"{cloud.folder}/tmp/jaxle-mine.tar.gz"
    for line in (
        "git cat-file -e HEAD:configs/quickstart.py",
        f"{request} describe mine --zone=us-east5-a '--format=value(state.state)'",
        f"{request} create mine --zone=us-east5-a --node-id=mine --accelerator-type=v5p-64 "
        "--runtime-version=v2-alpha-tpuv5 --spot",
        f"git archive --format=tar.gz --prefix=jaxle/ --output={archive} HEAD",
        f"gcloud compute tpus tpu-vm scp {archive} mine:jaxle.tar.gz --zone=us-east5-a "
        "--worker=all",
        f"{request} delete mine --zone=us-east5-a --force --quiet",
        "# exit status 0: complete; 2: given up; 75, or the VM was preempted: again from the top",
    ):
        assert line in out.splitlines()
    command = [word for word in shown if word.startswith("--command=") and "jaxle.launch" in word]
    assert len(command) == 1 and "--worker=all" in shown
    words = shlex.split(command[0].removeprefix("--command="))
    program = words[words.index("../venv/bin/python") :]
    assert program[1:7] == ["-m", "jaxle.launch", *RUN, f"{ODD};"]


def test_print_shows_what_one_vm_would_run(cloud):
    status, out, said = cloud.run("tpu_vm.sh", "mine", "z", "--print", *RUN[:2])
    assert (status, said, cloud.calls()) == (0, "", [])
    lines = [line for line in out.splitlines() if not line.startswith("#")]
    assert [line.split()[4] if "gcloud" in line else "git" for line in lines] == [
        *("git", "describe", "git", "scp", "ssh", "ssh"),
    ]
    assert all("--worker=0" in line for line in lines[3:]) and "--config.workdir" not in out


def test_a_pod_that_is_preempted_twice_completes(cloud):
    """It is made again each time; the arguments arrive as they were given."""
    cloud.end("preempted", "preempted", "0")
    status, _, said = cloud.run("tpu_pod.sh", *POD, "--delete", *RUN, ODD)
    assert status == 0 and said.count("mine is PREEMPTED: it is made again") == 2
    once = ["create", "scp", "ssh", "ssh"]
    assert verbs(cloud.calls()) == [*once, "delete", *once, "delete", *once, "delete"]
    assert cloud.launched() == 3 * [["-m", "jaxle.launch", *RUN, ODD]]
    assert not list((cloud.folder / "tmp").iterdir())


def test_a_queued_vm_is_waited_for_and_asked_for_again(cloud):
    cloud.end("preempted", "0")
    arguments = ["mine", "z", "--create=v6e-8", "--queued", "--spot", "--pause=0", *RUN]
    status, _, said = cloud.run("tpu_vm.sh", *arguments)
    requests = [call[4] for call in cloud.calls() if "queued-resources" in call]
    assert status == 0 and requests.count("create") == 2 and requests.count("delete") == 1
    assert requests.count("describe") >= 7 and "mine is still up" in said
    create = next(call for call in cloud.calls() if "create" in call)
    assert create[5:] == [
        *("mine", "--zone=z", "--node-id=mine", "--accelerator-type=v6e-8"),
        *("--runtime-version=v2-alpha-tpuv6e", "--spot"),
    ]


@pytest.mark.parametrize(
    "ends, expected, starts",
    [
        (["2"], 2, 1),  # the command, its config or its data are wrong
        (["130"], 130, 1),
        (["other worker 2"], 2, 1),  # whatever gcloud says of the first
        (["1", "75", "1", "75", "0"], 0, 5),  # a stop between failures starts their count again
        (["1"], 1, 2),
        (["other worker 1", "255"], 255, 2),  # a broken connection
    ],
)
def test_how_a_vm_goes_on_by_the_exit_status(cloud, ends, expected, starts):
    (cloud.folder / "state").write_text("READY\n")
    cloud.end(*ends)
    status, _, said = cloud.run("tpu_vm.sh", "mine", "z", "--failures=2", "--pause=0", *RUN)
    assert (status, len(cloud.launched())) == (expected, starts), said
    assert verbs(cloud.calls()) == ["scp", "ssh", *starts * ["ssh"]]  # installed once


def test_a_vm_that_is_not_to_be_made_is_resumable_where_it_was_preempted(cloud):
    (cloud.folder / "state").write_text("READY\n")
    cloud.end("preempted")
    status, _, said = cloud.run("tpu_vm.sh", "mine", "z", "--pause=0", *RUN)
    assert status == 75 and "mine is PREEMPTED: --create=TYPE makes it" in said


def test_print_shows_what_a_job_would_run(cloud):
    status, out, said = cloud.run("slurm_gpu.sbatch", "--print", *RUN, ODD)
    assert (status, said, cloud.calls()) == (0, "", [])
    assert out.startswith(f"sbatch launch/slurm_gpu.sbatch {shlex.join(RUN)} ")
    shown = shlex.split(out[out.index("srun") : out.index("\n#")])
    program = ["venv/bin/python", "-m", "jaxle.launch", *RUN, ODD]
    options = ["--kill-on-bad-exit=0", "--gpu-bind=none", "--cpus-per-task=8"]
    assert shown == ["srun", *options, *program]
    assert "\nscontrol requeue JOB\n" in out
    one = {**JOB, "SLURM_NTASKS_PER_NODE": "1", "SLURM_GPUS_ON_NODE": "8"}
    _, out, _ = cloud.run("slurm_gpu.sbatch", "--print", *RUN, **one)
    assert out.startswith("env JAX_LOCAL_DEVICE_IDS=0,1,2,3,4,5,6,7 srun ")
    assert "\nscontrol requeue 7\n" in out


@pytest.mark.parametrize(
    "ends, expected, starts, queued",
    [
        (["0"], 0, 1, 0),
        (["2"], 2, 1, 0),
        (["75"], 75, 1, 1),
        (["1", "0"], 0, 2, 0),
        (["1"], 1, 3, 0),
    ],
)
def test_how_a_job_goes_on_by_the_exit_status(cloud, ends, expected, starts, queued):
    cloud.end(*ends)
    status, _, said = cloud.run("slurm_gpu.sbatch", *RUN, ODD, **JOB)
    assert (status, len(cloud.launched())) == (expected, starts), said
    assert cloud.launched()[0] == ["-m", "jaxle.launch", *RUN, ODD]
    assert [call for call in cloud.calls() if call[0] == "scontrol"] == queued * [
        ["scontrol", "requeue", "7"]
    ]


def test_a_job_whose_time_ends_twice_completes(cloud):
    """The signal reaches the processes; they stop, and the job goes back into the queue."""
    cloud.end("until signalled", "until signalled", "0")
    for restart in range(3):
        with cloud.start("slurm_gpu.sbatch", *RUN, **JOB) as job:
            if restart < 2:
                while not (cloud.folder / "waits").exists() and job.poll() is None:
                    time.sleep(0.01)
                (cloud.folder / "waits").unlink()
                job.send_signal(signal.SIGTERM)
            _, said = job.communicate(timeout=60)
        assert job.returncode == (75 if restart < 2 else 0), said
    assert [call[0] for call in cloud.calls()] == ["srun", "scontrol", "srun", "scontrol", "srun"]


def test_print_shows_the_filled_in_yaml(cloud):
    status, out, said = cloud.run("gke_tpu.sh", *SLICE, "--spot", "--print", *RUN, ODD)
    assert (status, said, cloud.calls()) == (0, "", [])
    lines = out.splitlines()
    assert lines[0] == "kubectl delete jobset mine --namespace=default --ignore-not-found"
    assert lines[1] == "kubectl apply -f -" and lines[-1].startswith("kubectl get jobset mine ")
    text = "\n".join(line for line in lines if not line.startswith("kubectl"))
    filled = yaml.safe_load(text)
    job = filled["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert filled["spec"]["network"] == {"enableDNSHostnames": True, "subdomain": "mine"}
    assert filled["spec"]["failurePolicy"]["maxRestarts"] == 100
    assert (job["parallelism"], job["completions"], job["completionMode"]) == (8, 8, "Indexed")
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
    assert pod["restartPolicy"] == "Never" and job["backoffLimit"] == 0
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "2x4x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert "@" not in text and pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    given = [word.replace("$$", "$") for word in pod["containers"][0]["args"]]  # as Kubernetes does
    assert given == [*RUN, ODD]


@pytest.mark.parametrize(
    "ends, reason, expected",
    [
        (["", "", "Completed"], "", 0),
        (["", "Failed"], "FailJobSetFailurePolicyAction", 2),
        (["Failed"], "ReachedMaxRestarts", 1),
    ],
)
def test_a_slice_is_waited_for(cloud, ends, reason, expected):
    cloud.end(*ends)
    (cloud.folder / "reason").write_text(reason)
    status, _, said = cloud.run("gke_tpu.sh", *SLICE, "--chips=8", "--pause=0", *RUN)
    assert status == expected and reason in said
    filled = yaml.safe_load((cloud.folder / "applied").read_text())
    job = filled["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["completions"] == 4
    assert "cloud.google.com/gke-spot" not in job["template"]["spec"]["nodeSelector"]
    assert [call[1] for call in cloud.calls()[:2]] == ["delete", "apply"]
