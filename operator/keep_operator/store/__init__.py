"""SQL: everything the operator says to the control database, and nothing else."""
