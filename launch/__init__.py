"""One file a command: `python -m launch.NAME`. Flags are read here and nowhere else."""
