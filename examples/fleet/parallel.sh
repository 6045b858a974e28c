#!/bin/sh
# Seals a fleet in N parts at once with GNU parallel, here or, with parallel's --sshlogin, on many machines.
#
#   parallel.sh FLEET.toml DIR N
#
# The parts need no coordination: which part a host is in follows from its name. They share the key of the fingerprints,
# so that the next run of any part knows what changed. On one machine they may as well share DIR, as here; parts made
# elsewhere are merged by copying them over one another.
set -eu
fleet=$1 dir=$2 parts=$3

# The first part makes the key when there is none; the others then find it.
ukikit fleet encrypt "$fleet" --output="$dir" --shard="1/$parts"
seq 2 "$parts" | parallel --halt now,fail=1 ukikit fleet encrypt "$fleet" --output="$dir" --shard={}/"$parts"
