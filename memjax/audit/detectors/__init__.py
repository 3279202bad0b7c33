"""Ways to tell copies, behind one interface."""
