"""Images in and results out: cameras, videos, images, recordings and clips."""
