#!/bin/bash
# Submits launch/slurm/study.sbatch to a real Slurm of this one machine, and says what became of it.
#
#   apt-get install slurm-wlm munge; tests/slurm/study.sh [FOLDER]
#
# An array of three tasks shares out twelve pieces of work (a stand-in for `launch.study` with the real claims). One task
# is sent back to the queue while it works, another hears USR1 as at the end of its time. Expected: every piece is done
# once, both tasks come back, all end as COMPLETED. Needs root, as slurmd does; everything is in FOLDER (a new one in
# /tmp) and ends with this script. No part of the test suite: it takes Slurm, and half a minute.

set -eu
memjax=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$(mktemp -d /tmp/memjax-slurm-XXXX)}
python=$(realpath -s "$(command -v "${PYTHON:-python}")")
. "$memjax/tests/slurm/cluster.sh"
start_cluster "$folder" 16817 one
mkdir -p "$folder/work"

# The stand-in: called as `python -m launch.study FLAGS`, it does twelve pieces of four seconds, each under its claim.
cat > "$folder/standin" << END
#!$python
import os, sys, time
from pathlib import Path

sys.path.insert(0, "$memjax")
from launch.studying.claims import Claims

assert sys.argv[1:3] == ["-m", "launch.study"], sys.argv
work = Path(dict(flag.split("=", 1) for flag in sys.argv[3:])["--workdir"])
task = os.environ["SLURM_ARRAY_TASK_ID"] + "." + os.environ.get("SLURM_RESTART_COUNT", "0")
claims, left = Claims(work / "claims"), [f"train-{i}" for i in range(12)]
while left := [name for name in left if not (work / name).exists()]:
    for name in left:
        claim = None if (work / name).exists() else claims.take(name)
        if claim:
            with claim:
                time.sleep(4)
                claim.check()
                with (work / name).open("x") as done:  # a second time is an error
                    print(task, file=done)
    time.sleep(0.2)
END
chmod +x "$folder/standin"

cd "$folder/work"
file=$memjax/launch/slurm/study.sbatch
small=(--gres=none --cpus-per-task=1 --mem=0 --array=0-2 --time=2)
sbatch --test-only "${small[@]}" "$file" --workdir="$folder/work"
job=$(PYTHON=$folder/standin MEMJAX=$folder sbatch --parsable "${small[@]}" "$file" --workdir="$folder/work")
echo "job $job"
sleep 4
squeue
scontrol requeue "${job}_0"
echo "task 0 was sent back to the queue"
scancel --batch --signal=USR1 "${job}_2"  # the last one, whose number is that of the whole array
echo "task 2 heard USR1"
sleep 4  # Slurm lets those that come back wait for two minutes; we do not
for task in 0 2; do scontrol update "JobId=${job}_$task" StartTime=now; done
for _ in $(seq 240); do [ -z "$(squeue -h)" ] && break; sleep 0.5; done
scontrol show job "$job" | grep -E 'ArrayTaskId|JobState|Restarts|ExitCode' || true
echo "pieces, and which task.restart did them:"
grep -H . train-* | sort -t- -k2n
echo "left in the queue: $(squeue -h | wc -l); logs:"
grep -H . ./*.log || true
[ "$(ls train-* | wc -l)" = 12 ]
