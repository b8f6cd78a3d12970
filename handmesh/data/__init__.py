"""Where samples come from: synthetic shards, labelled photographs."""
