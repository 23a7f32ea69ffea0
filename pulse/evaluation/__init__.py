"""One table for every method that turns a small face into larger ones."""
