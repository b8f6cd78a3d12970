"""The parametric hand: model, skinning, anatomy, poses, fits."""
