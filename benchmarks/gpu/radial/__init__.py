"""What it would take to have the last layer of a radial network inside a convolution."""
