"""`python -m sevenfold` is `s7`."""

from sevenfold.cli import main

if __name__ == "__main__":
    main()
