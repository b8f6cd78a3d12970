"""`handmesh bench`: how long each stage of a frame takes on this machine, beside MediaPipe Hands where it is there."""
