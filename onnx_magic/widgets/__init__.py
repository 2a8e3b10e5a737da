"""What is live in a notebook: tables and panels that answer. Sees display and records; what it calls is handed in."""
