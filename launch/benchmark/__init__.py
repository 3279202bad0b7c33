"""What `launch.bench` works on and against: workloads, what ours does with them, and what others' programs do."""
