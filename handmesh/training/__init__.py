"""Training of the mesh network and the detector."""
