"""`python -m syncd` and the `syncd` command.

The command line is imported only when it runs: every spawned worker imports this module again.
"""


def main() -> None:
    """Run the command line."""
    from syncd.cli import main as run

    run()


if __name__ == "__main__":
    main()
