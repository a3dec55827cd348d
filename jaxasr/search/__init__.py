"""Searches: from what a network says of frames or tokens to hypotheses; pure, jitted."""
