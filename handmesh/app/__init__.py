"""The programs with a window or a stream: webcam, image, stream, doctor, camera calibration."""
