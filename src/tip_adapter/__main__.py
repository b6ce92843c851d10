"""`python -m tip_adapter` runs the command line."""

from tip_adapter.cli import main

if __name__ == "__main__":
    main()
