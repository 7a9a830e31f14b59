"""Graph passes: each makes a canonical model physically smaller and leaves it canonical."""
