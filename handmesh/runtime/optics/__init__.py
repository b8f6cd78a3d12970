"""What is known of the camera that takes the pictures."""
