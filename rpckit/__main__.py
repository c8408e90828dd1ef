"""`python -m rpckit`: the command line, also where no `rpckit` script is on the PATH."""

from rpckit.cli import main

if __name__ == "__main__":
    main()
