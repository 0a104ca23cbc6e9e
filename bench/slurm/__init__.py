"""SLURM: its commands, its job environment, the nodes of a cluster, and the cluster profiles."""
