"""What the three algorithms share. Nothing here knows which algorithm uses it."""
