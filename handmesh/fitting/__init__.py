"""Fitting the parametric hand to labelled photographs: the fits are labels to train on."""
