"""Text for pre-training: four public or credentialed sources, and one clean mix of them."""
