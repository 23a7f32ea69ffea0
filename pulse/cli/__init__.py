"""The commands. `pulse.cli.app.main` runs them."""
