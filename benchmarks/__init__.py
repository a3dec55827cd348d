"""What it costs: each benchmark is a module with a function `measure`; see README.md."""
