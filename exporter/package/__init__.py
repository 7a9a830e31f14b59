"""Package a bundle for an app."""
