"""Pictures <-> tensors, and what happens to pictures."""
