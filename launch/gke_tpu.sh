#!/usr/bin/env bash
# A TPU slice on Google Kubernetes Engine: fills in launch/gke_tpu.yaml, applies it, and waits until
# the run is complete.
#
#   launch/gke_tpu.sh NAME --image=IMAGE --accelerator=tpu-v5p-slice --topology=2x4x4 [OPTIONS] \
#       --config configs/resnet50.py --config.workdir=gs://BUCKET/RUN [--config.a.b=value …]
#
# The image has jaxle ('.[tpu,gcs]') and the config; the account may write to the bucket. Options,
# before the launcher's:
#   --accelerator=NAME   tpu-v5-lite-podslice, tpu-v5p-slice, tpu-v6e-slice
#   --topology=AxB[xC]   of the slice, as its node pool has it
#   --chips=N            a host (default 4; a single host of v5e or v6e may have 1 or 8)
#   --spot               nodes that may be preempted
#   --account=NAME       Kubernetes service account (default: default)
#   --namespace=NAME     (default: default)
#   --restarts=N         of the whole slice, preemptions included (default 100)
#   --detach             return as soon as it is applied
#   --pause=SECONDS      between two questions (default 30)
#   --print              show every command and the filled-in YAML, run none
#
# The same command again takes the place of the JobSet of that name, and the run resumes. Ctrl-C
# ends the waiting, not the run. Exit status 0: complete; 2: the run was refused; 1: any other.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/common.sh
. launch/common.sh

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then usage; fi
name=$1 image='' accelerator='' topology='' chips=4 spot='' account=default namespace=default
restarts=100 detach='' pause=30
shift
while [ $# -gt 0 ]; do
    case $1 in
        --image=*) image=${1#*=} ;;
        --accelerator=*) accelerator=${1#*=} ;;
        --topology=*) topology=${1#*=} ;;
        --chips=*) chips=${1#*=} ;;
        --spot) spot=yes ;;
        --account=*) account=${1#*=} ;;
        --namespace=*) namespace=${1#*=} ;;
        --restarts=*) restarts=${1#*=} ;;
        --detach) detach=yes ;;
        --pause=*) pause=${1#*=} ;;
        --print) print=yes ;;
        *) break ;; # the launcher's own
    esac
    shift
done
for given in image accelerator topology; do
    [ -n "${!given}" ] || refuse "--$given=… is missing: $(basename "$0") alone shows an example."
done
[[ $topology =~ ^[0-9]+(x[0-9]+)+$ ]] || refuse "topology '$topology': expected one such as 2x4x4."
hosts=$((${topology//x/*} / chips))
[ $((hosts * chips)) -eq $((${topology//x/*})) ] && [ "$hosts" -gt 0 ] ||
    refuse "topology $topology has $((${topology//x/*})) chips, no multiple of $chips a host."
config_file "$@" >/dev/null
[[ $(setting config.workdir "$@") == *://* ]] || [[ $(setting config.workdir "$@") == /* ]] ||
    refuse "a pod's own disk goes with it: add --config.workdir=gs://BUCKET/RUN."

# The launcher's arguments as strings of JSON, which YAML reads. Kubernetes takes $$ for $.
strings() {
    local word list=''
    for word in "$@"; do
        word=${word//\\/\\\\}
        word=${word//\"/\\\"}
        word=${word//$'\n'/\\n}
        word=${word//$'\t'/\\t}
        word=${word//\$/\$\$}
        list+=", \"$word\""
    done
    printf '%s' "${list#, }"
}

filled() {
    local line
    while IFS= read -r line; do
        if [[ $line == *'# @SPOT@' ]]; then
            [ -n "$spot" ] || continue
            line=${line% # @SPOT@}
        fi
        line=${line//@NAME@/"$name"}
        line=${line//@NAMESPACE@/"$namespace"}
        line=${line//@RESTARTS@/"$restarts"}
        line=${line//@HOSTS@/"$hosts"}
        line=${line//@CHIPS@/"$chips"}
        line=${line//@ACCOUNT@/"$account"}
        line=${line//@ACCELERATOR@/"$accelerator"}
        line=${line//@TOPOLOGY@/"$topology"}
        line=${line//@IMAGE@/"$image"}
        line=${line//@ARGUMENTS@/"$arguments"}
        printf '%s\n' "$line"
    done < <(grep -v '^#' launch/gke_tpu.yaml)
}

about() { run kubectl get jobset "$name" --namespace="$namespace" -o "jsonpath={$1}"; }

arguments=$(strings "$@")
run kubectl delete jobset "$name" --namespace="$namespace" --ignore-not-found
if [ -n "$print" ]; then
    run kubectl apply -f - && filled
    if [ -z "$detach" ]; then
        remark "every $pause seconds, until it says Completed or Failed:"
        about .status.terminalState
        remark 'where it failed:'
        about '.status.conditions[?(@.type=="Failed")].reason'
    fi
    exit 0
fi
filled | kubectl apply -f -
if [ -n "$detach" ]; then exit 0; fi
say "the log: kubectl logs -f --namespace=$namespace -l jobset.sigs.k8s.io/jobset-name=$name"
while :; do
    # a question that is not answered is asked again
    case $(about .status.terminalState || true) in
        Completed) say complete && exit 0 ;;
        Failed) break ;;
    esac
    sleep "$pause"
done
reason=$(about '.status.conditions[?(@.type=="Failed")].reason')
say "failed: $reason"
if [ "$reason" = FailJobSetFailurePolicyAction ]; then exit 2; else exit 1; fi
