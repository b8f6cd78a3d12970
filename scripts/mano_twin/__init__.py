"""A stand-in for MANO's licensed files, in their exact format; for tests and trials."""
