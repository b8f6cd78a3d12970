"""What the seed papers claim of their backbones' speed, measured on the reader's own machine."""
