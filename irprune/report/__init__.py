"""Reports: one HTML file, and a table for the terminal, both from the same plain values."""
