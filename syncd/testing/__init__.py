"""What plugins and the project itself are tested with."""
