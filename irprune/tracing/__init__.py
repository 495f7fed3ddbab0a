"""From an unmodified module to a graph of semantic nodes."""
