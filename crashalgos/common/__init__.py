"""What the algorithms share. Nothing here imports one of them."""
