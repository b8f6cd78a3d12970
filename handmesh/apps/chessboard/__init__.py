"""Measures a camera with a printed chessboard: the board, its views, and what they say of the lens."""
