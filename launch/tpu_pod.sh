#!/usr/bin/env bash
# A TPU pod slice, all its hosts: sends the checkout to every worker and runs a config on all of
# them until it is complete.
#
#   launch/tpu_pod.sh NAME ZONE [OPTIONS] --config configs/resnet50.py \
#       --config.workdir=gs://BUCKET/RUN [--config.a.b=value …]
#   launch/tpu_pod.sh mine us-east5-a --create=v5p-64 --queued --spot --delete \
#       --config configs/resnet50.py --config.workdir=gs://BUCKET/resnet50
#
# Options, before the launcher's:
#   --create=TYPE     make the slice where there is none: v5p-64, v5litepod-64 (without it, it must
#                     be up)
#   --version=IMAGE   software of a slice that is made (default: by the type)
#   --spot            make it cheap and subject to preemption; it is made again, and the run
#                     resumes, until it is complete
#   --preemptible     the older kind of --spot, which lives 24 hours at most
#   --queued          ask for it through the queue (queued resources), and wait
#   --delete          delete the slice at the end, complete or refused
#   --failures=N      give up after N failures in a row that were no preemption (default 5)
#   --pause=SECONDS   between two attempts or questions (default 30)
#   --print           show every command, run none
#
# The last commit is sent (git archive): commit your config. The processes find each other by the
# metadata of the slice. The workdir must be one that all workers read and write: gs://BUCKET/RUN,
# or a shared file system that is mounted on all.
set -euo pipefail
cd "$(dirname "$0")/.."
workers=all
. launch/tpu.sh
