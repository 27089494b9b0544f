# shellcheck shell=bash
# Sourced by tpu_vm.sh (workers=0) and tpu_pod.sh (workers=all), with their arguments.
#
#   is it READY? ── no ──> make it ──┐
#        ^   │ yes                   v
#        │   └────────> send the last commit, install it ──> run ──> 0: complete    2: give up
#        │                                                    │
#        └──────── preempted, or one of at most N failures ───┘
#
# Sources: https://cloud.google.com/sdk/gcloud/reference/compute/tpus/tpu-vm (create, describe, ssh,
# scp, delete) and …/tpus/queued-resources; https://cloud.google.com/tpu/docs/spot (what is
# preempted is not restarted, but deleted and made again), …/preemptible (its state is PREEMPTED),
# …/queued-resources (states of a request), …/runtimes (software by type). In gcloud's code the
# status of an ssh to several workers is the first of theirs that is not 0.
# shellcheck source=launch/common.sh
. launch/common.sh

# --- the command line ---------------------------------------------------------------------------
if [ $# -lt 2 ] || [ "${1#-}" != "$1" ] || [ "${2#-}" != "$2" ]; then usage; fi
name=$1 zone=$2
shift 2
create='' version='' kind='' queued='' delete='' limit=5 pause=30
while [ $# -gt 0 ]; do
    case $1 in
        --create=*) create=${1#*=} ;;
        --version=*) version=${1#*=} ;;
        --spot | --preemptible) kind=$1 ;;
        --queued) queued=yes ;;
        --delete) delete=yes ;;
        --failures=*) limit=${1#*=} ;;
        --pause=*) pause=${1#*=} ;;
        --print) print=yes ;;
        *) break ;; # the launcher's own
    esac
    shift
done
config=$(config_file "$@")
workdir=$(setting config.workdir "$@")
if [[ $workdir != *://* && $workdir != /* ]]; then
    given="folder '${workdir:-runs/…}'" remedy='add --config.workdir=gs://BUCKET/RUN.'
    if [ "${workers:?}" = all ]; then
        refuse "the workers of a pod do not share the $given of their own disks: $remedy"
    elif [ -n "$kind" ]; then
        refuse "a VM that is preempted takes the $given with it: $remedy"
    fi
fi
if [ -z "$create" ] && [ -n "$kind$queued" ]; then
    refuse "${kind:---queued} is how a VM is made: add --create=TYPE, such as --create=v5litepod-8."
fi
if [ -n "$queued" ] && [ "$kind" = --preemptible ]; then
    refuse "the queue has --spot and not --preemptible: write --queued --spot."
fi
if [ -z "$version" ]; then
    case $create in
        v5litepod-*) version=v2-alpha-tpuv5-lite ;;
        v5p-*) version=v2-alpha-tpuv5 ;;
        v6e-*) version=v2-alpha-tpuv6e ;;
        *) version=tpu-ubuntu2204-base ;;
    esac
fi

# --- the machine --------------------------------------------------------------------------------
vm() { run gcloud compute tpus tpu-vm "$1" "$name" --zone="$zone" "${@:2}"; }

request() { run gcloud compute tpus queued-resources "$1" "$name" --zone="$zone" "${@:2}"; }

# READY, PREEMPTED, another state of the VM, WAITING in the queue, or nothing where there is none.
state() {
    local queue=''
    if [ -n "$queued" ]; then
        queue=$(request describe --format='value(state.state)' 2>/dev/null) || true
        case $queue in
            ACTIVE) ;;
            '') return 0 ;;
            FAILED | SUSPEND*) echo PREEMPTED && return 0 ;;
            *) echo WAITING && return 0 ;;
        esac
    fi
    vm describe --format='value(state)' 2>/dev/null || true
}

make() {
    if [ -n "$queued" ]; then
        request create --node-id="$name" --accelerator-type="$create" \
            --runtime-version="$version" ${kind:+"$kind"}
    else
        vm create --accelerator-type="$create" --version="$version" ${kind:+"$kind"}
    fi
}

remove() {
    if [ -n "$queued" ]; then request delete --force --quiet; else vm delete --quiet; fi
}

# Returns once the VM is READY, and makes it first where it is missing or was taken away.
ready() {
    local now
    while :; do
        now=$(state)
        case $now in
            READY) return 0 ;;
            WAITING | *ING) ;; # CREATING, STARTING, REPAIRING, …
            '' | PREEMPTED | TERMINATED)
                if [ -z "$create" ]; then
                    say "$name is ${now:-not there}: --create=TYPE makes it, as --create=v5p-64."
                    if [ -n "$now" ]; then exit 75; else exit 2; fi
                fi
                if [ -n "$now" ]; then
                    say "$name is $now: it is made again"
                    remove || return 1
                fi
                sent=''
                make || return 1
                ;;
            *) refuse "$name is $now: start it or delete it, then give the same command again." ;;
        esac
        sleep "$pause"
    done
}

# --- the program --------------------------------------------------------------------------------
# uv brings a Python that jaxle can use: the images of TPU VMs have 3.10.
install="rm -rf jaxle/jaxle jaxle/configs && tar xzf jaxle.tar.gz && cd jaxle"
install+=" && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install -q --user uv"
install+=" && ~/.local/bin/uv venv -q --allow-existing --python 3.12 ../venv"
install+=" && ~/.local/bin/uv pip install -q --python ../venv/bin/python '.[tpu,gcs]'"
# The lock: where a connection broke, the run goes on; the next attempt waits for it, then resumes.
start="cd jaxle && flock -o ../jaxle.lock ../venv/bin/python -m jaxle.launch $(quoted "$@")"
# shellcheck disable=SC2016 # the worker's shell expands it
start+='; status=$?; echo "launch: $(hostname) ended with status $status"; exit $status'
archive=${TMPDIR:-/tmp}/jaxle-$name.tar.gz
log=${TMPDIR:-/tmp}/jaxle-$name.log
sent=''

# Sends the last commit to every worker and installs it, once for each VM.
send() {
    if [ -n "$sent" ]; then return 0; fi
    run git archive --format=tar.gz --prefix=jaxle/ --output="$archive" HEAD &&
        run gcloud compute tpus tpu-vm scp "$archive" "$name:jaxle.tar.gz" --zone="$zone" \
            --worker="$workers" &&
        vm ssh --worker="$workers" --command="$install" </dev/null &&
        sent=yes
}

# Runs the config; the status is 2 if that of any worker is, whatever the others ended with.
launch() {
    local status
    vm ssh --worker="$workers" --command="$start" </dev/null 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    if [ "$status" -ne 0 ] && grep -q 'ended with status 2$' "$log"; then status=2; fi
    rm -f "$log"
    return "$status"
}

if [ -n "$print" ]; then
    run git cat-file -e "HEAD:$config"
    if [ -n "$queued" ]; then request describe --format='value(state.state)'; fi
    vm describe --format='value(state)'
    if [ -n "$create" ]; then
        remark 'where it is PREEMPTED or TERMINATED:' && remove
        remark 'where there is none:' && make
        remark "the state again, every $pause seconds, until it is READY"
    fi
    send
    vm ssh --worker="$workers" --command="$start"
    remark 'exit status 0: complete; 2: given up; 75, or the VM was preempted: again from the top'
    remark "any other: again from the top, until there are $limit in a row"
    if [ -n "$delete" ]; then remove; fi
    exit 0
fi

git cat-file -e "HEAD:$config" 2>/dev/null ||
    refuse "config $config is not in the last commit, which is what the machine gets: commit it."
failures=0
while :; do
    status=0
    { ready && send; } || status=1
    if [ "$status" -eq 0 ]; then launch || status=$?; fi
    case $status in
        0) say complete && break ;;
        2 | 130) break ;;
    esac
    sleep "$pause" # a VM that is being taken away says so a little later
    now=$(state)
    if [ "$status" -eq 75 ] || [ "$now" = PREEMPTED ] || [ "$now" = TERMINATED ]; then
        failures=0
        say "stopped by a preemption (status $status): again"
    elif [ "$((++failures))" -lt "$limit" ]; then
        say "ended with status $status, failure $failures of $limit: again"
    else
        say "ended with status $status, failure $failures: given up; the same command resumes"
        break
    fi
done
rm -f "$archive"
if [ -n "$delete" ]; then
    remove
elif [ -n "$create" ]; then
    say "$name is still up, and costs until it is deleted (--delete)"
fi
exit "$status"
