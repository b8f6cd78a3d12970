"""The networks and their checkpoints: tensors in, named tuples out."""
