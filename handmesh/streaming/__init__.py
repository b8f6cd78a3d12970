"""Hands as a stream: a server for browsers, game engines and instruments. Needs the extra: handmesh[stream]."""
