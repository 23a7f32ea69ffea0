"""Photos -> faces as they are matched."""
