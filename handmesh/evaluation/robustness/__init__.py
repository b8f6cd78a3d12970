"""How a network bears corrupted pictures: ImageNet-C's corruptions on FreiHAND's evaluation split."""
