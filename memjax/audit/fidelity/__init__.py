"""How good a synthetic set is as a whole, and the scores that try to see copying in features of whole sets."""
