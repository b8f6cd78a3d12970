"""From hands in the camera's frame to pixels."""
