"""Reading, planning and batching; NumPy only, so that workers start fast."""
