"""The straight line: snapshot, capture, deliver, and what supervises them."""
