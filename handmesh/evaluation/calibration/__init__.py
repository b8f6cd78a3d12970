"""Whether the numbers that the product says of its own answers come true: score, side, and the joints' spread."""
