"""What people do with a running copy: compare it, follow one record."""
