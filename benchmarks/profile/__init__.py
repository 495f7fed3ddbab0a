"""Where the time of stock and optimized graphs goes, op by op."""
