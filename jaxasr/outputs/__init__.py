"""What decoding and alignment write: `formats`, of which `subtitles` are some; `files` says where each goes."""
