#!/usr/bin/env bash
# One TPU VM, a single host with all its chips: sends the checkout, installs it, runs a config
# until it is complete.
#
#   launch/tpu_vm.sh NAME ZONE [OPTIONS] --config configs/resnet50.py [--config.a.b=value …]
#   launch/tpu_vm.sh mine us-west4-a --create=v5litepod-8 --spot --delete \
#       --config configs/resnet50.py --config.workdir=gs://BUCKET/resnet50
#
# Options, before the launcher's:
#   --create=TYPE     make the VM where there is none: v5litepod-8, v6e-8 (otherwise it must be up)
#   --version=IMAGE   software of a VM that is made (default: by the type)
#   --spot            make it cheap and subject to preemption; it is made again, and the run
#                     resumes, until it is complete
#   --preemptible     the older kind of --spot, which lives 24 hours at most
#   --queued          ask for it through the queue (queued resources), and wait
#   --delete          delete the VM at the end, complete or refused
#   --failures=N      give up after N failures in a row that were no preemption (default 5)
#   --pause=SECONDS   between two attempts or questions (default 30)
#   --print           show every command, run none
#
# The last commit is sent (git archive): commit your config. Without --config.workdir results stay
# on the VM, in jaxle/runs/. What may be preempted needs --config.workdir=gs://BUCKET/RUN, which the
# next VM reads.
set -euo pipefail
cd "$(dirname "$0")/.."
workers=0
. launch/tpu.sh
