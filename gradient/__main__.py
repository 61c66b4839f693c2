"""`python -m gradient` is the command `gradient`."""

from gradient.cli import main

if __name__ == "__main__":
    main()
