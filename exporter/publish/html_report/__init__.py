"""Write figures as one HTML page: drawings in SVG, each with its table. The page loads nothing."""
