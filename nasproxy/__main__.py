"""`python -m nasproxy` is the `nasproxy` command."""

from nasproxy.cli import main

if __name__ == "__main__":
    main()
