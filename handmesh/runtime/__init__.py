"""From frames to hands without torch: tracker, backend, detector, lifting, smoothing."""
