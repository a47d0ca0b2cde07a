"""``python -m compressbert`` is the command ``compressbert``."""

from compressbert.cli.app import main

if __name__ == "__main__":
    main()
