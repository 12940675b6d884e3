"""`python -m graphc` is the command `graphc`, for an interpreter whose scripts are not on the path."""

from graphc.cli.main import main

if __name__ == "__main__":
    main()
