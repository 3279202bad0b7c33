"""What a study found: its table, what follows from it, and the page that people read."""
