"""Where the time of a model goes, node by node, against what this machine can do."""
