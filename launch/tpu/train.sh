#!/bin/bash
# Training on a Cloud TPU slice of Google Compute Engine: makes the slice, gives its hosts the code, and runs one
# command on all of them. A spot slice that is taken away is made anew, and the training goes on where it stopped.
#
#   launch/tpu/train.sh --config=configs/ddpm.py --data=/shared/chest --workdir=/shared/runs/chest
#
# What is given here is what `python -m launch.train` takes. Run it from the folder of memjax, in a terminal that stays
# (tmux), with gcloud logged in. /shared is a network file system (Filestore) that all hosts mount; data and runs are
# there. The slice stays when the training has ended: gcloud compute tpus tpu-vm delete NAME --zone=ZONE

NAME=${NAME:-memjax-train}
ZONE=${ZONE:-us-west4-a}
TYPE=${TYPE:-v5litepod-16}               # gcloud compute tpus accelerator-types list --zone=ZONE
VERSION=${VERSION:-v2-alpha-tpuv5-lite}  # of the hosts' system, as Google names it for the type
SHARED=${SHARED:-10.0.0.2:/shared}       # what the hosts mount as /shared
SPOT=${SPOT:---spot}                     # SPOT= for a slice that is not taken away
RESTARTS=${RESTARTS:-20}                 # how often it may be made anew

set -euo pipefail
tpu() {
    local verb=$1
    shift
    gcloud compute tpus tpu-vm "$verb" "$NAME" --zone="$ZONE" "$@"
}
on_all() { tpu ssh --worker=all --command="$1"; }
state() { tpu describe --format='value(state)' 2> /dev/null || true; }

make() {
    { [ -z "$(state)" ] || tpu delete --quiet; } &&
        tpu create --accelerator-type="$TYPE" --version="$VERSION" ${SPOT:+"$SPOT"} &&
        on_all "sudo apt-get install -y -qq nfs-common && sudo mkdir -p /shared && sudo mount -t nfs $SHARED /shared" &&
        gcloud compute tpus tpu-vm scp --recurse pyproject.toml constraints.txt README.md memjax launch configs \
            "$NAME:" --zone="$ZONE" --worker=all &&
        on_all "python3 -m venv venv && venv/bin/pip install -q -c constraints.txt -e . 'jax[tpu]'"
}

for _ in $(seq 0 "$RESTARTS"); do
    status=0
    { [ "$(state)" = READY ] || make; } &&
        on_all "venv/bin/python -m launch.train --cluster=tpu --stopped_status=75 $(printf '%q ' "$@")" || status=$?
    # Where the slice is there, it is the training that ended, unless it asks to be run again.
    [ "$status" = 75 ] || [ "$(state)" != READY ] || exit "$status"
    echo "status $status: once more, on a new slice if this one is gone" >&2
    sleep "${PAUSE_S:-60}"
done
exit 75
