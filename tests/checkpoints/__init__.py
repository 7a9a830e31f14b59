"""Small checkpoints of each compressed form, made by the form's own mechanism."""
