"""Submission: from a command line to workers or SLURM jobs, and following them until every run has its record."""
