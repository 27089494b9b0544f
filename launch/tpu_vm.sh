#!/usr/bin/env bash
# One TPU VM (a single host, all its chips): install jaxle there and run a config.
#   launch/tpu_vm.sh NAME ZONE --config configs/resnet50.py [--config.a.b=value …]
# NAME is a TPU VM that is up; gcloud must be set up on this machine. The checkout is copied; results stay on the VM, in its runs/.
set -euo pipefail
name=${1:?name of the TPU VM} zone=${2:?its zone}
shift 2
cd "$(dirname "$0")/.."
git archive --format=tar.gz --prefix=jaxle/ HEAD | gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --command='tar xz'
arguments=$(printf ' %q' "$@")
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --command="
    set -e; cd jaxle
    [ -d ../venv ] || python3 -m venv ../venv
    ../venv/bin/pip install -q '.[tpu]'
    ../venv/bin/python -m jaxle.launch$arguments"
