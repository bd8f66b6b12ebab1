"""What plugins of one family of systems share: how to reach it, and what its errors and words mean."""
