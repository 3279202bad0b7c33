# A Slurm of this one machine, for a script that sources this: `start_cluster FOLDER PORT NODE...`.
#
# Every node is a slurmd of this machine. Ports from PORT on are used; all files are in FOLDER, and all ends with the
# script. Needs root, as slurmd does, and `apt-get install slurm-wlm munge`. CONFIGURATION may hold further lines of
# slurm.conf.

start_cluster() {
    local folder=$1 port=$2 host number=0 node
    shift 2
    host=$(hostname -s)
    mkdir -p "$folder"/{state,log,run}
    # Munge: who says that he is this user, is; with a key of its own, made here.
    head -c 1024 /dev/urandom > "$folder/munge.key"
    chmod 400 "$folder/munge.key"
    chmod 755 "$folder" "$folder/run"
    munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/run/munge.socket" \
        --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/run/munged.seed" \
        > /dev/null 2>&1 &
    started=($!)
    trap 'kill "${started[@]}" 2> /dev/null; wait' EXIT
    cat > "$folder/slurm.conf" << END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$(id -un)
SlurmctldPort=$port
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2,requeue_delay=2
MinJobAge=600
${CONFIGURATION:-PartitionName=all Nodes=ALL Default=YES State=UP}
END
    for node; do
        number=$((number + 1))
        echo "NodeName=$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + number)) CPUs=4 State=UNKNOWN" \
            >> "$folder/slurm.conf"
    done
    export SLURM_CONF=$folder/slurm.conf
    for _ in $(seq 50); do [ -S "$folder/run/munge.socket" ] && break; sleep 0.1; done
    slurmctld -D > /dev/null 2>&1 & started+=($!)
    for node; do
        mkdir -p "$folder/spool-$node"
        slurmd -D -N "$node" > /dev/null 2>&1 & started+=($!)
    done
    for _ in $(seq 60); do [ "$(sinfo -h -o %D -t idle 2> /dev/null)" = $# ] && break; sleep 0.5; done
    sinfo
}
