#!/usr/bin/env bash
# A real SLURM on this machine, for tests: nodes n1 and n2 with one CPU each, and n3 with two CPUs in a separate partition, `whole`.
# Needs root and Debian.
# Usage: bash scripts/slurm_test_cluster.sh start|stop|status [FOLDER]     (default: /tmp/targen-slurm)
# Then: source FOLDER/env, which sets SLURM_CONF. `stop` ends only processes that this script started.
set -euo pipefail
command="${1:-status}"
base="${2:-/tmp/targen-slurm}"
conf="$base/slurm.conf"
nodes=(n1 n2 n3)

die() { echo "error: $1" >&2; exit 2; }
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
ask() { SLURM_CONF="$conf" timeout 10 "$@"; }

install_slurm() {
  if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null; then return; fi
  command -v apt-get >/dev/null || die "slurm: slurmctld, slurmd or munged is missing, expected Debian packages slurm-wlm and munge. Install them."
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -y -q --no-install-recommends slurm-wlm munge; } >"$base/apt.log" 2>&1 \
    || die "slurm: slurm-wlm and munge could not be installed, see $base/apt.log"
}

write_conf() {
  local port
  port="$(free_ports)"
  set -- $port
  cat >"$conf" <<CONF
ClusterName=targen_test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$1
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$base/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool-%n
SlurmctldPidFile=$base/slurmctld.pid
SlurmdPidFile=$base/slurmd-%n.pid
SlurmctldLogFile=$base/slurmctld.log
SlurmdLogFile=$base/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=1
MaxArraySize=${SLURM_TEST_MAX_ARRAY:-1001}
MinJobAge=300
KillWait=30
SlurmctldTimeout=60
SlurmdTimeout=60
CompleteWait=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$2 CPUs=1 RealMemory=3000 State=UNKNOWN
NodeName=n2 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$3 CPUs=1 RealMemory=3000 State=UNKNOWN
NodeName=n3 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$4 CPUs=2 RealMemory=3000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=2
PartitionName=whole Nodes=n3 MaxTime=INFINITE State=UP PriorityTier=1
CONF
}

free_ports() {
  python3 - <<'PY'
import socket
held = [socket.socket() for _ in range(4)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
PY
}

wait_for() {  # what, seconds, command ...
  local what="$1" left="$2"; shift 2
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1)); [ "$left" -gt 0 ] || die "slurm: $what did not come up, see $base/*.log"
    sleep 1
  done
}

all_idle() { [ "$(ask sinfo -h -N -p main,whole -o '%N %t' | grep -c ' idle$')" -eq "${#nodes[@]}" ]; }

start() {
  [ "$(id -u)" -eq 0 ] || die "slurm: got user $(id -un), expected root, who may start SLURM's daemons."
  if alive "$base/slurmctld.pid"; then echo "already running: $base"; return; fi
  mkdir -p "$base/state" "${nodes[@]/#/$base/spool-}"
  install_slurm
  [ -s "$base/munge.key" ] || { head -c 128 /dev/urandom >"$base/munge.key"; chmod 400 "$base/munge.key"; }
  chmod 755 "$base"
  rm -f "$base/munge.socket" "$base/munge.socket.lock"
  munged --force --socket="$base/munge.socket" --key-file="$base/munge.key" --pid-file="$base/munged.pid" \
    --log-file="$base/munged.log" --seed-file="$base/munge.seed"
  write_conf
  echo "export SLURM_CONF=$conf" >"$base/env"
  slurmctld -c -f "$conf"
  for node in "${nodes[@]}"; do slurmd -f "$conf" -N "$node"; done
  wait_for "slurmctld" 60 ask scontrol ping
  wait_for "all nodes" 60 all_idle
  status
}

stop() {
  ask scancel --user "$(id -u)" 2>/dev/null || true
  for name in "${nodes[@]/#/slurmd-}" slurmctld munged; do
    if alive "$base/$name.pid"; then kill "$(cat "$base/$name.pid")"; fi
  done
  for name in "${nodes[@]/#/slurmd-}" slurmctld munged; do
    for _ in $(seq 60); do alive "$base/$name.pid" || break; sleep 0.5; done
    rm -f "$base/$name.pid"
  done
  echo "stopped: $base"
}

status() {
  alive "$base/slurmctld.pid" || { echo "not running: $base"; return 1; }
  ask sinfo -N
  echo "source $base/env"
}

case "$command" in
  start) mkdir -p "$base"; start ;;
  stop) stop ;;
  status) status ;;
  *) die "got $command, expected start, stop or status." ;;
esac
