"""How steadily hands are followed through generated sequences whose truth is known."""
