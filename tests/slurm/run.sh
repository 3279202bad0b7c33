#!/bin/bash
# Submits launch/slurm/run.sbatch to a real Slurm of this one machine, which it plays two nodes of.
#
#   apt-get install slurm-wlm munge; tests/slurm/run.sh [FOLDER]
#
# 1. One process hears USR1, as at the end of its time: it saves, queues up again, goes on where it stopped, and ends.
# 2. Two nodes are taken away for a job of more importance: both processes save one state, come back, and end.
# 3. `scancel` ends a training for good, after a save.
# 4. Two nodes draw, hear USR1, come back and draw the rest, and audit that: the bytes that one process writes.
# 5. An audit that finds copies ends with 3, one of a folder that is not there with 2, and neither queues up again.
# Needs root, as slurmd does; everything is in FOLDER (a new one in /tmp) and ends with this script. No part of the test
# suite: it takes Slurm, and some minutes.

set -eu
memjax=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$(mktemp -d /tmp/memjax-slurm-XXXX)}
PYTHON=$(realpath -s "$(command -v "${PYTHON:-python}")")
export PYTHON MEMJAX=$memjax XLA_FLAGS=--xla_backend_optimization_level=0
. "$memjax/tests/slurm/cluster.sh"
CONFIGURATION='PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=low Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL State=UP PriorityTier=10 PreemptMode=OFF'
start_cluster "$folder" 16860 first second
mkdir -p "$folder/work"
cd "$folder/work"

slurm=(--parsable --gres=none --cpus-per-task=1 --mem=0 --time=20)
training=(--config=configs/ddpm.py:smoke --config.steps="${STEPS:-400}" "--cache=$folder/compiled")
for name in monitor evaluate preview; do training+=("--config.every.$name=0"); done
training+=(--config.every.save=100000 --config.every.log=1)
told() { scontrol show job "$1" | grep -oE '(JobState|Restarts|ExitCode)=\S*' | paste -sd' '; }
is() { scontrol show job "$1" | grep -qE "$2"; }
until_it() {  # SECONDS WHAT COMMAND...: until the command succeeds
    local left=$(($1 * 2)) what=$2
    shift 2
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "in vain: $what"; tail -n 50 ./*.log; exit 1; }
        sleep 0.5
    done
}
steps() { tail -n 1 "$1/metrics.jsonl" | grep -oE '"step": [0-9]+' | grep -oE '[0-9]+'; }
has_steps() { [ -s "$1/metrics.jsonl" ] && [ "$(steps "$1")" -ge "$2" ]; }
back_at_once() {  # Slurm lets those that come back wait; we do not
    until_it 60 "$1 is back in the queue" is "$1" 'JobState=PENDING'
    sleep 4
    scontrol update "JobId=$1" StartTime=now
}

echo "1. one node"
file=$memjax/launch/slurm/run.sbatch
sbatch --test-only "${slurm[@]}" "$file" train "${training[@]}" --workdir="$PWD/one"
job=$(sbatch "${slurm[@]}" "$file" train "${training[@]}" --workdir="$PWD/one")
until_it 300 "it trains" has_steps one 3
scancel --batch --signal=USR1 "$job"
back_at_once "$job"
echo "saved: $(ls one/checkpoints)"
until_it 300 "it ends" is "$job" 'JobState=(COMPLETED|FAILED)'
told "$job"
[ "$(cat one/complete)" = "${STEPS:-400}" ]

echo "2. two nodes"
job=$(sbatch "${slurm[@]}" --nodes=2 "$file" train "${training[@]}" --workdir="$PWD/two" --coordinator=127.0.0.1:16880)
until_it 300 "it trains" has_steps two 3
sbatch --parsable -p high --nodes=2 --exclusive --output=high.log --wrap 'sleep 1' > /dev/null
until_it 120 "it gives way" is "$job" 'Restarts=1|JobState=COMPLETED'
told "$job"
back_at_once "$job"
echo "saved: $(ls two/checkpoints)"
until_it 300 "it ends" is "$job" 'JobState=(COMPLETED|FAILED)'
told "$job"
[ "$(cat two/complete)" = "${STEPS:-400}" ]
for run in one two; do echo "$run: $(tail -n 1 $run/metrics.jsonl | grep -oE '"(step|loss)": [^,]*' | paste -sd' ')"; done

echo "3. scancel"
job=$(sbatch "${slurm[@]}" --nodes=2 "$file" train "${training[@]}" --workdir="$PWD/three" --coordinator=127.0.0.1:16880)
until_it 300 "it trains" has_steps three 3
scancel "$job"
until_it 60 "it ends" is "$job" 'JobState=CANCELLED'
sleep 5
told "$job"
echo "saved: $(ls three/checkpoints)"

echo "4. sampling and an audit"
drawing=(--run="$PWD/one" --seeds=0:"${DRAWN:-20000}" --batch_size=20)
job=$(sbatch "${slurm[@]}" --nodes=2 "$file" sample "${drawing[@]}" --out="$PWD/drawn" --coordinator=127.0.0.1:16880)
until_it 300 "both draw" eval '[ "$(ls -d drawn.parts/*.partial 2> /dev/null | wc -l)" = 2 ]'
sleep 1
scancel --batch --signal=USR1 "$job"
back_at_once "$job"
until_it 300 "it ends" is "$job" 'JobState=(COMPLETED|FAILED)'
told "$job"
"$PYTHON" -m launch.sample "${drawing[@]}" --out="$PWD/drawn_alone"
auditing=(--train="$PWD/one/data/train" --synthetic="$PWD/drawn" --heldout="$PWD/one/data/heldout")
job=$(sbatch "${slurm[@]}" --nodes=2 "$file" audit "${auditing[@]}" --out="$PWD/audit" --coordinator=127.0.0.1:16880)
until_it 300 "it ends" is "$job" 'JobState=(COMPLETED|FAILED)'
told "$job"
"$PYTHON" -m launch.audit "${auditing[@]}" --out="$PWD/audit_alone" || [ $? = 3 ]
diff -r drawn drawn_alone
cmp audit/pairs.csv audit_alone/pairs.csv  # reports name the command

echo "5. what ends with a status of its own is not run again"
cp -r one/data/train copies
for synthetic in copies nothing; do
    auditing=(--train="$PWD/one/data/train" --synthetic="$PWD/$synthetic" --heldout="$PWD/one/data/heldout")
    job=$(sbatch "${slurm[@]}" --nodes=2 "$file" audit "${auditing[@]}" --out="$PWD/of_$synthetic" --coordinator=127.0.0.1:16880)
    until_it 300 "it ends" is "$job" 'JobState=(COMPLETED|FAILED)|Restarts=[1-9]'
    told "$job"
    [ "$synthetic" = copies ] && wanted=3 || wanted=2
    [ "$(told "$job")" = "JobState=FAILED Restarts=0 ExitCode=$wanted:0" ]
done

echo "left in the queue: $(squeue -h | wc -l); logs:"
grep -H . ./memjax-*.log | grep -v Gloo
