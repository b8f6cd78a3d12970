"""From images to hands without torch."""
