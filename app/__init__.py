"""The Wayleave server."""
