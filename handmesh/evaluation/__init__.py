"""How good the networks and the tracker are."""
