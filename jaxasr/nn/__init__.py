"""Networks and their parts: pure functions of arrays, parameters and keys."""
