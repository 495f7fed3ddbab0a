"""What pruning costs in accuracy, and what recovery and training from scratch give for it."""
