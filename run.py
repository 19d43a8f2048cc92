"""The `nasproxy` command of a clone: `python run.py --help` shows what can be chosen."""

from nasproxy.cli import main

if __name__ == "__main__":
    main()
