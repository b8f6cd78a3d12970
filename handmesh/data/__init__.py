"""Training data: labelled hands from photographs, FreiHAND and synthetic shards."""
