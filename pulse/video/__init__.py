"""Films through a network: read frame by frame, coded in parts, joined with all that they held."""
