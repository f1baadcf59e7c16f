"""The parts of scripts/bench: workloads, the programs compared, measuring, the report."""
