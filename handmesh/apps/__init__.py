"""The programs: the live demo, one picture, a stream, doctor and bench, the calibration of a camera."""
